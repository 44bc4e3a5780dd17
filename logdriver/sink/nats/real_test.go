package nats

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/sinktest"
)

// TestServer delivers to a real server, twice: what it has already it does not
// take again.
func TestServer(t *testing.T) {
	srv := newServer(t, "").start(t)
	js := srv.stream(t, nats.StreamConfig{})
	for range 2 {
		(&shipper{sink: open(t, "", nil, srv.addr)}).run(t, 40, func(int) {})
	}
	all := messages(t, js)
	inOrder(t, all, 40*perBatch)
	m := all[0]
	for key, want := range map[string]string{"source": "stdout", "container_name": "web-1", "team=x": "bad \ufffd utf-8", "time": "1970-01-01T00:00:00.000000000Z"} {
		if got := m.Header[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if m.Subject != "logs.host_ü.x" {
		t.Errorf("subject %q", m.Subject)
	}
}

// TestBytes: lines are what was written, in pieces where the server takes no larger
// messages.
func TestBytes(t *testing.T) {
	srv := newServer(t, "").start(t)
	js := srv.stream(t, nats.StreamConfig{})
	var every []byte
	for i := range 256 {
		every = append(every, byte(i))
	}
	lines := []string{"", string(every), "\r\n\r\n", strings.Repeat("0123456789abcdef", 10<<20/16), "the end"}
	if refused, err := once(t, open(t, "", nil, srv.addr), lines...); err != nil || len(refused) > 0 {
		t.Fatal(refused, err)
	}
	got := make([]string, len(lines))
	n := 0
	for _, m := range messages(t, js) {
		if got[n] += string(m.Data); m.Header.Get("cut") == "" {
			n++
		}
	}
	for i, line := range lines {
		if got[i] != line {
			t.Errorf("line %d reads %.80q, want %.80q", i, got[i], line)
		}
	}
}

// TestKilled kills the server again and again while records are on their way: what
// it acknowledged it keeps, what comes again it has once, and in order.
func TestKilled(t *testing.T) {
	srv := newServer(t, "").start(t)
	js := srv.stream(t, nats.StreamConfig{})
	kills := 0
	s := &shipper{sink: open(t, "", nil, srv.addr)}
	s.run(t, 200, func(acked int) {
		if acked >= (kills+1)*50 && kills < 3 {
			kills++
			srv.end(syscall.SIGKILL)
			srv.start(t)
		}
	})
	if s.dials < 4 {
		t.Errorf("%d connections", s.dials)
	}
	inOrder(t, messages(t, js), 200*perBatch)
}

// TestCluster kills one of three servers that have a stream together, the one that
// we are connected to or another.
func TestCluster(t *testing.T) {
	ports := freePorts(t, 6)
	routes, addrs := ports[:3], ports[3:]
	var all []*server
	for i, route := range routes {
		srv := newServerAt(t, addrs[i], fmt.Sprintf("server_name: n%d\ncluster { name: c, listen: %q, routes: [%q, %q, %q] }", i, route, "nats://"+routes[0], "nats://"+routes[1], "nats://"+routes[2]))
		all = append(all, srv)
	}
	for _, srv := range all {
		srv.start(t)
	}
	nc, err := nats.Connect("nats://"+strings.Join(addrs, ",nats://"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := nc.JetStream(nats.MaxWait(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		_, err := js.AddStream(&nats.StreamConfig{Name: "LOGS", Subjects: []string{"logs.>"}, Replicas: 3})
		return err
	})
	var info *nats.StreamInfo
	eventually(t, func() (err error) {
		if info, err = js.StreamInfo("LOGS"); err == nil && info.Cluster.Leader == "" {
			err = errors.New("there is no leader yet")
		}
		return err
	})
	killed := false
	(&shipper{sink: open(t, "&timeout=2s", nil, addrs...)}).run(t, 100, func(acked int) {
		if !killed && acked >= 30 {
			killed = true
			for i, srv := range all {
				if info.Cluster.Leader == fmt.Sprintf("n%d", i) {
					srv.end(syscall.SIGKILL)
				}
			}
		}
	})
	// What the leader had not passed on when it died comes behind what the next one
	// has taken by then.
	nearlyInOrder(t, messages(t, js), 100*perBatch)
}

func TestLogin(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	stranger, _ := nkeys.CreateUser()
	other, _ := stranger.Seed()
	operator, creds := account(t)
	for _, tc := range []struct {
		name, conf, at, query string
		files                 map[string]string
		err                   string
	}{
		{name: "password", conf: `authorization { user: u, password: "p:@" }`, at: "u@", query: "&password-file=f", files: map[string]string{"f": "p:@\n"}},
		{name: "password in the URL", conf: `authorization { user: u, password: "p" }`, at: "u:p@"},
		{name: "wrong password", conf: `authorization { user: u, password: "p" }`, at: "u:secret@", err: "look at the user"},
		{name: "no password", conf: `authorization { user: u, password: "p" }`, err: "look at the user"},
		{name: "no file", conf: `authorization { user: u, password: "p" }`, at: "u@", query: "&password-file=f", err: "f: no such file"},
		{name: "token", conf: `authorization { token: t }`, query: "&token-file=f", files: map[string]string{"f": "t"}},
		{name: "wrong token", conf: `authorization { token: t }`, query: "&token-file=f", files: map[string]string{"f": "x"}, err: "look at the user"},
		{name: "empty token", query: "&token-file=f", files: map[string]string{"f": "\n"}, err: "no line of text"},
		{name: "nkey", conf: `authorization { users: [{ nkey: ` + public + ` }] }`, query: "&nkey-file=f", files: map[string]string{"f": string(seed)}},
		{name: "another nkey", conf: `authorization { users: [{ nkey: ` + public + ` }] }`, query: "&nkey-file=f", files: map[string]string{"f": string(other)}, err: "look at the user"},
		{name: "no seed", conf: `authorization { users: [{ nkey: ` + public + ` }] }`, query: "&nkey-file=f", files: map[string]string{"f": public}, err: "no seed"},
		{name: "nkey for nobody", query: "&nkey-file=f", files: map[string]string{"f": string(seed)}, err: "knows neither nkeys nor JWTs"},
		{name: "creds", conf: operator, query: "&creds-file=f", files: map[string]string{"f": creds}},
		{name: "creds without a JWT", conf: operator, query: "&creds-file=f", files: map[string]string{"f": string(seed)}, err: "look at the user"},
		{name: "just allowed", conf: `authorization { users: [{ user: u, password: p, permissions: { publish: "logs.>", subscribe: "_INBOX.>" } }] }`, at: "u:p@"},
		{name: "not allowed", conf: `authorization { users: [{ user: u, password: p, permissions: { publish: "other" } }] }`, at: "u:p@", err: "allowed to publish"},
		{name: "inbox not allowed", conf: `authorization { users: [{ user: u, password: p, permissions: { subscribe: "other" } }] }`, at: "u:p@", err: "subscribe to the inbox"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := newServer(t, tc.conf).start(t)
			_, err := once(t, open(t, tc.query, tc.files, "nats://"+tc.at+srv.addr), "line")
			if tc.err == "" {
				tc.err = "nobody is there" // for there is no stream
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, want %q", err, tc.err)
			}
		})
	}
}

// account returns the configuration of a server that knows one operator and one
// account, and the credentials of a user.
func account(t *testing.T) (conf, creds string) {
	t.Helper()
	op, _ := nkeys.CreateOperator()
	acc, _ := nkeys.CreateAccount()
	user, _ := nkeys.CreateUser()
	system, _ := nkeys.CreateAccount() // JetStream wants one beside operators
	opKey, _ := op.PublicKey()
	systemKey, _ := system.PublicKey()
	accKey, _ := acc.PublicKey()
	userKey, _ := user.PublicKey()
	opJWT, err1 := jwt.NewOperatorClaims(opKey).Encode(op)
	accJWT, err2 := jwt.NewAccountClaims(accKey).Encode(op)
	systemJWT, err6 := jwt.NewAccountClaims(systemKey).Encode(op)
	userJWT, err3 := jwt.NewUserClaims(userKey).Encode(acc)
	seed, err4 := user.Seed()
	text, err5 := jwt.FormatUserConfig(userJWT, seed)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n",
		opJWT, systemKey, systemKey, systemJWT, accKey, accJWT), string(text)
}

func TestTLS(t *testing.T) {
	ca, err := testcert.New("nats test")
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), map[string]string{"ca.pem": string(ca.PEM)}
	for name, of := range map[string]string{"server": "127.0.0.1", "client": "client"} {
		pair, err := ca.Issue(24*time.Hour, of)
		if err := errors.Join(err, pair.Write(dir, name), testcert.WriteFile(dir, "ca.pem", ca.PEM)); err != nil {
			t.Fatal(err)
		}
		files[name+".pem"], files[name+".key"] = string(pair.Cert), string(pair.Key)
	}
	secure := newServer(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", dir+"/server.pem", dir+"/server.key", dir+"/ca.pem")).start(t)
	plain := newServer(t, "").start(t)
	js := secure.stream(t, nats.StreamConfig{}, nats.RootCAs(dir+"/ca.pem"), nats.ClientCert(dir+"/client.pem", dir+"/client.key"))
	client := "&tls-cert=client.pem&tls-key=client.key"
	for _, tc := range []struct{ name, at, query, err string }{
		{"with a certificate", "nats+tls://" + secure.addr, "&tls-ca=ca.pem" + client, ""},
		{"without one", "nats+tls://" + secure.addr, "&tls-ca=ca.pem", "asks for a certificate"},
		{"an authority that we do not know", "nats+tls://" + secure.addr, client, "authorities"},
		{"in the clear", "nats://" + secure.addr, "", "begin the collector's URL with nats+tls"},
		{"no TLS there", "nats+tls://" + plain.addr, "&tls-ca=ca.pem", "set the server up for TLS"},
		{"TLS first", "nats+tls://" + secure.addr, "&tls-first=on&tls-ca=ca.pem" + client, "does not speak TLS"},
	} {
		_, err := once(t, open(t, tc.query, files, tc.at), "line")
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
	}
	if all := messages(t, js); len(all) != 1 || string(all[0].Data) != "line" {
		t.Errorf("%v", all)
	}
}

// TestStreamsThatRefuse are those that do not take everything.
func TestStreamsThatRefuse(t *testing.T) {
	srv := newServer(t, "max_payload: 16KB").start(t)
	s := open(t, "", nil, srv.addr)
	if _, err := once(t, s, "line"); err == nil || !strings.Contains(err.Error(), "nats stream add") {
		t.Fatalf("no stream: %v", err)
	}
	js := srv.stream(t, nats.StreamConfig{MaxMsgs: 18, Discard: nats.DiscardNew, MaxMsgSize: 6000})

	long := strings.Repeat("żółw ", 5000)
	refused, err := once(t, s, long)
	if !errors.Is(err, errTooLarge) {
		t.Fatalf("too large: %v", err)
	}
	for range 5 { // each time it tries with smaller ones
		if refused, err = once(t, s, long); err == nil {
			break
		}
	}
	// Of larger ones before, the last may be there: it was small enough.
	got, limit := "", fmt.Sprint("/", s.Limits().MessageBytes)
	for _, m := range messages(t, js) {
		id := m.Header.Get("Nats-Msg-Id")
		if strings.HasSuffix(id, limit) {
			got += string(m.Data)
		}
	}
	if err != nil || len(refused) > 0 || got != long {
		t.Errorf("%v, %v, %d bytes of %d", err, refused, len(got), len(long))
	}
	if err := js.PurgeStream("LOGS"); err != nil {
		t.Fatal(err)
	}

	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprint("line ", i))
	}
	_, err = once(t, s, all...)
	if !errors.Is(err, ship.ErrBusy) || !strings.Contains(err.Error(), "maximum messages exceeded") {
		t.Errorf("full: %v", err)
	}
}

// TestNoRoom: what no message has room for is put aside, and the rest goes on.
func TestNoRoom(t *testing.T) {
	srv := newServer(t, "max_payload: 4KB").start(t)
	js := srv.stream(t, nats.StreamConfig{})
	s := open(t, "", nil, srv.addr)
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	m := sinktest.Meta()
	m.Attrs = append(m.Attrs, ship.Attr{Key: "k", Value: strings.Repeat("v", 5000)})
	batch := conn.Append(nil, s.Prepare(m), &ship.Record{Offset: 1, Line: []byte("line")})
	batch = conn.Append(batch, s.Prepare(sinktest.Meta()), &ship.Record{Line: []byte("next")})
	if err := conn.Send(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if acked, err := conn.Wait(t.Context(), 0); acked != 1 || err != nil {
		t.Fatalf("acked %d, %v", acked, err)
	}
	got := conn.(ship.Refuser).Refused()
	if len(got) != 1 || got[0].ID != "s1-0000000000000001" || got[0].Class != "too-large" || got[0].Container != "web-1" {
		t.Errorf("%+v", got)
	}
	if all := messages(t, js); len(all) != 1 || string(all[0].Data) != "next" {
		t.Errorf("%v", all)
	}
}
