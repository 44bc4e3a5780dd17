// Package etcd is the ipam.Backend of hosts that share an etcd: no two of them
// have one address at a time. It stands below ipam, whose interface it
// implements, and above etcd's client, which it alone imports here.
//
// # What is in etcd
//
// Below a prefix (see Config), as JSON; SEGMENT names the layer 2 network on
// which addresses are to be unique:
//
//	address/SEGMENT/ADDR        who has an address (Record)
//	aside/SEGMENT/ADDR/HOST     a gateway, or what a user of that host set aside
//	foreign/SEGMENT/ADDR        in use by a machine that got it from nobody here
//	reservation/SEGMENT/ADDR    kept by an operator for a container
//	pool/SEGMENT/SUBNET/HOST    a host has a network on that subnet (PoolRecord)
//	host/HOST                   a host, by the id of its installation
//	alive/HOST                  the same, with a lease that it keeps alive
//
// # Claims
//
// A claim is one transaction: create the record if there is none, and nobody
// has the address set aside. Several candidates are in one transaction, each in
// the else branch of the one before, so that a claim takes one round trip even
// where the first is gone. Which addresses are worth a try is known from a
// mirror: all keys, listed once and watched from there on. Only the transaction
// decides.
//
// Each write has a revision, and what we do to a record of ours depends on its
// being the one that we know: a request that comes late changes nothing.
//
// # What is ours
//
// Record and Manager are compared at each connection, when something of ours
// changed, and time and again. What the Manager has and etcd has not is claimed;
// what another host has of it is a Conflict, which is logged, shown and counted,
// and stays as it is, for a running container cannot get another address. What
// etcd has as ours and the Manager has not is left over from a crash, and given
// back after a grace.
//
// # While etcd is away
//
// New addresses come from what is this host's in etcd already: what its
// containers have left and could not be given back yet, and a reserve that it
// has claimed ahead (option reserve). Both are in a table on the disk as well, for
// a plugin that starts while etcd is away. If there is nothing, a request fails at once, after at most two attempts at the
// beginning. What of a request's outcome is not known counts as somebody else's.
package etcd
