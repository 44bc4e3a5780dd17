// Package pool makes pools of collectors out of what definitions say of them, and
// keeps those in use in step with the sources that name their members: discover,
// route and the sinks meet here and become what ship ships to.
//
// A pool is opened by who first uses it and ends when ship has nothing more for it.
// What cannot be used, a member, a file or a secret, leaves a pool as it was.
package pool
