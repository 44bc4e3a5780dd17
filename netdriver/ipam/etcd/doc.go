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
// New addresses come from a reserve that this host has claimed ahead (option
// reserve=N), and from nowhere else. If there is none, a request fails at once,
// and in less than two seconds where it is the first to find out.
//
// An address may be given out without asking only while etcd's record of it
// names this host and can be removed by nobody but this host. The mirror proves
// nothing of the kind: it may be behind, and a release that was sent and not
// answered may be done at any time, by the request of a process that is gone,
// too. What proves it is the table of the reserve, on the disk:
//
//   - An address comes into the table only after a claim of its own, whose
//     success is known. That wrote a new record, so no release that is still under
//     way is of this one: a release removes the record that it names by its
//     revision, and never a later one, be it this host's own.
//   - It is taken out of the table, on the disk, before it is given to somebody,
//     and before any request is sent that may remove its record. So a release whose
//     outcome is not known counts as done. Who took it out is the only one who may
//     go on.
//   - No other host removes or takes over a record of the kind reserve. A host is
//     asked to give one up by a reservation that an operator makes, and then does.
//     The operator who reclaims a lost host says that its plugin runs no more.
//
// What is not in the table is not given out, whatever is known of it: not what
// containers left while etcd was away, which is given back when it answers, and
// not what a claim or release that was not answered was about. An etcd that was
// restored knows nothing of what the table relies on, and the table is emptied as
// soon as that is seen.
//
// A replay is believed where nobody can be asked, as ipam demands. It adds nothing
// to the table.
//
// # Who works on an address
//
// The Manager keeps requests that concern one address from one another. The
// goroutine that compares is kept from them by hands: it skips what a request has
// in hand, and whether the Manager knows an address it looks up with the address
// in hand, before it gives it back.
package etcd
