// Package reload keeps the configuration that is in force while containers run. It
// follows the source of it, takes a new version as a whole, with the files beside it,
// or refuses it with a reason, and keeps what it took for when the source is away.
package reload
