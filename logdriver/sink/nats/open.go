package nats

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dockline/dockline/logdriver/sink/internal/wire"
)

// info is what of a server's greeting matters to us.
type info struct {
	Version     string `json:"version"`
	Headers     bool   `json:"headers"`
	MaxPayload  int    `json:"max_payload"`
	Nonce       string `json:"nonce"`
	TLSRequired bool   `json:"tls_required"`
	TLSOffered  bool   `json:"tls_available"`
	JetStream   bool   `json:"jetstream"`
}

// minPayload is how large messages have to be allowed to be, in bytes: what goes
// with a record and its line have to fit in.
const minPayload = 4 << 10

// connect is our answer.
type connect struct {
	Verbose      bool   `json:"verbose"`
	Pedantic     bool   `json:"pedantic"`
	TLS          bool   `json:"tls_required"`
	Name         string `json:"name"`
	Lang         string `json:"lang"`
	Version      string `json:"version"`
	Protocol     int    `json:"protocol"`
	Echo         bool   `json:"echo"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	User         string `json:"user,omitempty"`
	Pass         string `json:"pass,omitempty"`
	Token        string `json:"auth_token,omitempty"`
	JWT          string `json:"jwt,omitempty"`
	NKey         string `json:"nkey,omitempty"`
	Signature    string `json:"sig,omitempty"`
}

// dial connects to one server, and logs in.
func (c *cluster) dial(ctx context.Context, server *wire.Target) (*conn, error) {
	link, upgrade, err := server.DialPlain(ctx)
	if err != nil {
		return nil, err
	}
	n := &conn{cluster: c, link: link}
	if server.Secure() && c.tlsFirst {
		if n.link, err = upgrade(ctx); err != nil {
			return nil, err
		}
		upgrade = nil
	}
	if err := n.open(ctx, server, upgrade); err != nil {
		return nil, errors.Join(fmt.Errorf("log in to NATS server: %w", err), n.link.Close())
	}
	n.start()
	return n, nil
}

// open reads the greeting, and answers it.
func (c *conn) open(ctx context.Context, server *wire.Target, upgrade func(context.Context) (net.Conn, error)) error {
	first := c.link
	stop := context.AfterFunc(ctx, func() { _ = first.SetReadDeadline(time.Unix(1, 0)) })
	greeting, err := c.greeting()
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return err
	}
	if err := greeting.check(server); err != nil {
		return err
	}
	if server.Secure() && upgrade != nil {
		if c.in.Buffered() > 0 {
			return fmt.Errorf("%w: there is more behind its greeting, before TLS", ErrProtocol)
		}
		secured, err := upgrade(ctx)
		if err != nil {
			return err
		}
		c.link, c.in = secured, bufio.NewReaderSize(secured, inBuffer)
	}
	c.info = greeting
	second := c.link
	stop = context.AfterFunc(ctx, func() { _ = second.SetReadDeadline(time.Unix(1, 0)) })
	err = c.logIn(ctx, server)
	if !stop() {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

// greeting reads INFO.
func (c *conn) greeting() (*info, error) {
	c.in = bufio.NewReaderSize(c.link, inBuffer)
	op, rest, err := c.line()
	if errors.Is(err, os.ErrDeadlineExceeded) && c.cluster.Secure() && !c.cluster.tlsFirst {
		return nil, errors.New("the server does not greet: if it wants TLS first (handshake_first), say tls-first=on")
	}
	if err != nil {
		return nil, fmt.Errorf("read the greeting: %w", err)
	}
	if op != "INFO" {
		return nil, fmt.Errorf("%w: %q instead of INFO: is it the port for clients?", ErrProtocol, c.clean(op))
	}
	greeting := new(info)
	if err := json.Unmarshal(rest, greeting); err != nil {
		return nil, fmt.Errorf("%w: INFO: %w", ErrProtocol, err)
	}
	return greeting, nil
}

func (i *info) check(server *wire.Target) error {
	switch {
	case i.TLSRequired && !server.Secure():
		return &Error{Said: "that it wants TLS", Advice: "begin the collector's URL with nats+tls", After: slowly}
	case server.Secure() && !i.TLSRequired && !i.TLSOffered:
		return &Error{Said: "nothing of TLS", Advice: "set the server up for TLS, or begin the collector's URL with nats", After: slowly}
	case !i.Headers:
		return &Error{Said: "that it knows no headers", Advice: "records need them for their ids: switch them on, or take a server from 2.2 on", After: slowly}
	case i.MaxPayload < minPayload:
		return &Error{Said: fmt.Sprintf("that it takes no message of more than %d bytes", i.MaxPayload), Advice: fmt.Sprintf("set its max_payload to %d or more", minPayload), After: slowly}
	}
	return nil
}

// logIn says who we are, subscribes to the inbox, and waits until the server has
// seen that.
func (c *conn) logIn(ctx context.Context, server *wire.Target) error {
	hello := connect{
		TLS: server.Secure(), Name: "dockline-log", Lang: "go", Version: "1", Protocol: 1, Headers: true, NoResponders: true,
	}
	if err := c.cluster.login.show(server.Host, c.info.Nonce, &hello); err != nil {
		return err
	}
	for _, s := range []string{hello.Pass, hello.Token, hello.JWT, hello.Signature} {
		c.shown = append(c.shown, s, strings.ToUpper(s)) // as line has what is no word of the protocol's
	}
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails
	c.inbox = c.cluster.inbox + "." + hex.EncodeToString(id[:]) + "."
	text, err := json.Marshal(&hello)
	if err != nil {
		return err
	}
	if err := wire.WriteAll(ctx, c.link, fmt.Appendf(nil, "CONNECT %s\r\nSUB %s* 1\r\nPING\r\n", text, c.inbox)); err != nil {
		return wire.Reason(c.link, err)
	}
	for {
		op, rest, err := c.line()
		if err != nil {
			return fmt.Errorf("wait for the answer: %w", err)
		}
		switch op {
		case "PONG":
			return nil
		case "-ERR":
			return refusal(c.clean(string(rest)), true)
		case "PING", "INFO", "+OK":
		default:
			return fmt.Errorf("%w: %q", ErrProtocol, c.clean(op))
		}
	}
}

// start has the connection work.
func (c *conn) start() {
	c.ledger, c.batch = wire.NewLedger(c.cluster.Timeout), 1
	c.pings, c.listened = make(chan struct{}, 1), make(chan struct{})
	c.close = sync.OnceValue(c.shut)
	c.cluster.payload.Store(int64(c.info.MaxPayload))
	c.pieces = c.cluster.Limits().MessageBytes
	c.answering.Go(c.answerPings)
	go c.listen()
}
