"""The laws, one module a group. Each is an async function of a bench, named as what it promises."""
