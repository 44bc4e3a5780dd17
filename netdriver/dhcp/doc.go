// Package dhcp leases the addresses of endpoints from the DHCPv4 server of their
// wire (RFC 2131) and keeps them leased. It is a backend of ipam, beside the
// embedded one, and speaks on packet sockets: all that a server hears of an
// endpoint, in every phase, comes from the endpoint's own MAC, and the endpoint
// itself takes no part.
//
//	ipam ── Claim, Release ──▶ Manager ──▶ lease (one keeper each) ──▶ wire ──▶ Port
//	                              └──▶ the table of leases, durable
//
// # What a lease goes through
//
//	         DISCOVER, OFFER, REQUEST, ACK
//	(none) ────────────────────────────────▶ bound ◀──────────┐
//	   ▲                                     │ │ │ T1: RENEW   │ ACK
//	   │ RELEASE, or its end                 │ │ └─T2: REBIND──┤
//	   │                 Release: its        │ └─NAK, its end──▶ lost
//	  idle ◀──── container stopped ──────────┘
//	   └──── the container is back: INIT-REBOOT ──▶ bound
//
// An idle lease is what lets a container that starts again have its address
// again: it is not renewed, and given back when nobody came for it.
//
// A lost lease is an alarm. The address of a running container cannot be
// changed, so it keeps it, and the server is asked for that very address until
// it leases it again.
//
// # Who the client is
//
// A server knows a client by its identifier (option 61), see ownerOf and
// clientID. Of an owner whom the engine gives another MAC at each start, and says
// no name of, nothing is known: he asks for the address that another such one has
// left last, which is what a restarted container looks like.
//
// # Locks
//
// Manager.mu guards what is in memory and is held over no call but those to the
// table. What goes over the wire for one lease goes in its turn (lease.turn);
// different leases never wait for each other.
package dhcp
