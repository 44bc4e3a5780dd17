package kafka

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dockline/dockline/internal/testcert"
)

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := testcert.WriteFile(dir, name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// try sends one record and returns what comes of it.
func try(t *testing.T, s *cluster) error {
	t.Helper()
	c, err := s.Dial(t.Context())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	acked, err := send(t, c.(*conn), s.Prepare(meta("k1")), 0, 1, 1)
	if err == nil && acked != 1 {
		err = errors.New("nothing is acknowledged, and there is no error")
	}
	return err
}

func TestSASL(t *testing.T) {
	for param, mechanism := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		p := start(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "u", "pw :"))
		put(t, p.host.Config, "right", "pw :\n")
		put(t, p.host.Config, "empty", "\n")
		for _, tc := range []struct{ user, params, err string }{
			{"u:pw%20:@", "", ""},
			{"u@", "password-file=right", ""},
			{"u:wrong@", "", "are user and password the right ones?"},
			{"x:pw@", "", "are user and password the right ones?"},
			{"u@", "password-file=empty", "holds no line of text"},
			{"u@", "password-file=none", "no such file"},
			{"", "", "SASL"},
		} {
			params := []string{"timeout=20s", tc.params}
			if tc.user != "" {
				params = append(params, "sasl="+param)
			}
			err := try(t, p.open("kafka://"+tc.user, params...))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("%s, %s%s: %v, want %q", mechanism, tc.user, tc.params, err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "wrong") {
				t.Errorf("a password is told: %v", err)
			}
			var held *Error
			if strings.HasPrefix(tc.err, "are user") && !errors.As(err, &held) {
				t.Errorf("%s: the brokers are asked again at once: %v", mechanism, err)
			}
		}
	}
}

// A password that was replaced counts from the next connection on.
func TestPasswordIsReplaced(t *testing.T) {
	p := start(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "u", "new"))
	put(t, p.host.Config, "secret", "old")
	s := p.open("kafka://u@", "password-file=secret")
	if err := try(t, s); err == nil {
		t.Error("the old password is taken")
	}
	put(t, p.host.Config, "secret", "new")
	if err := try(t, s); err != nil {
		t.Error(err)
	}
}

// What real brokers answer, where this one only ends the connection.
func TestLoginRefused(t *testing.T) {
	for err, says := range map[*kerr.Error]string{kerr.UnsupportedSaslMechanism: "sasl.enabled.mechanisms", kerr.SaslAuthenticationFailed: "refuse the user or the password"} {
		p := start(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "pw"))
		p.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake, kmsg.SASLAuthenticate}, Err: err, TopLevel: true, Count: -1})
		got := try(t, p.open("kafka://u:pw@", "sasl=plain"))
		var held *Error
		if !errors.As(got, &held) || !strings.Contains(got.Error(), says) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// A user that may not write to a topic is told which rights it needs.
func TestACLs(t *testing.T) {
	p := start(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "root", "pw"), kfake.User("PLAIN", "u", "pw",
		kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "logs", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationWrite, Allow: true},
		kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "logs", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true}))
	if err := p.CreateTopic("secret", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := try(t, p.open("kafka://u:pw@", "sasl=plain")); err != nil {
		t.Error(err)
	}
	if err := try(t, p.open("kafka://u:pw@", "sasl=plain", "topic=secret")); err == nil || !strings.Contains(err.Error(), "ACLs for Describe and Write") {
		t.Errorf("%v", err)
	}
}

func issue(t *testing.T, a *testcert.Authority, valid time.Duration, names ...string) testcert.Pair {
	t.Helper()
	pair, err := a.Issue(valid, names...)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func authority(t *testing.T, name string) *testcert.Authority {
	t.Helper()
	a, err := testcert.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func serving(t *testing.T, p testcert.Pair) *tls.Config {
	t.Helper()
	cert, err := p.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// startTLS starts a cluster below TLS, with what it trusts beside.
func startTLS(t *testing.T, config *tls.Config, ca *testcert.Authority) *peer {
	t.Helper()
	p := start(t, kfake.TLS(config))
	put(t, p.host.Config, "ca.pem", string(ca.PEM))
	return p
}

func TestTLS(t *testing.T) {
	ca, other := authority(t, "dockline test"), authority(t, "another")
	old := serving(t, issue(t, ca, 24*time.Hour, "127.0.0.1"))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for _, tc := range []struct {
		name, params, err string
		config            *tls.Config
	}{
		{name: "right", params: "tls-ca=ca.pem", config: serving(t, issue(t, ca, 24*time.Hour, "127.0.0.1"))},
		{name: "another authority's", params: "tls-ca=ca.pem", err: "did not issue", config: serving(t, issue(t, other, 24*time.Hour, "127.0.0.1"))},
		{name: "expired", params: "tls-ca=ca.pem", err: "not valid now", config: serving(t, issue(t, ca, time.Minute, "127.0.0.1"))},
		{name: "for another name", params: "tls-ca=ca.pem", err: `not for "127.0.0.1"`, config: serving(t, issue(t, ca, 24*time.Hour, "kafka.example"))},
		{name: "by that name", params: "tls-ca=ca.pem&tls-name=kafka.example", config: serving(t, issue(t, ca, 24*time.Hour, "kafka.example"))},
		{name: "old TLS", params: "tls-ca=ca.pem", err: "TLS versions", config: old},
		{name: "unchecked", params: "tls-insecure=on", config: serving(t, issue(t, other, 24*time.Hour, "127.0.0.1"))},
	} {
		p := startTLS(t, tc.config, ca)
		var said bytes.Buffer
		p.host.Log = slog.New(slog.NewTextHandler(&said, nil))
		err := try(t, p.open("kafka+tls://", tc.params, "timeout=20s"))
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.err)
		}
		if unchecked := tc.name == "unchecked"; strings.Contains(said.String(), "is not checked") != unchecked {
			t.Errorf("%s: the log says %q", tc.name, said.String())
		}
	}
}

// The certificates that count are those of now.
func TestClientCertificate(t *testing.T) {
	ca, other := authority(t, "dockline test"), authority(t, "another")
	right, stranger := issue(t, ca, 24*time.Hour, "client"), issue(t, other, 24*time.Hour, "client")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := serving(t, issue(t, ca, 24*time.Hour, "127.0.0.1"))
		config.ClientAuth, config.ClientCAs, config.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool(), version
		p := startTLS(t, config, ca)
		if err := try(t, p.open("kafka+tls://", "tls-ca=ca.pem", "timeout=20s")); err == nil || !strings.Contains(err.Error(), "asks for a certificate") {
			t.Errorf("TLS %x, no certificate: %v", version, err)
		}
		s := p.open("kafka+tls://", "tls-ca=ca.pem", "tls-cert=client.pem", "tls-key=client.key", "timeout=20s")
		for _, step := range []struct {
			name string
			put  func() error
			err  string
		}{
			{"none yet", func() error { return nil }, "client.pem: no such file"},
			{"a stranger's", func() error { return stranger.Write(p.host.Config, "client") }, "certificate"},
			{"the right one", func() error { return right.Write(p.host.Config, "client") }, ""},
			{"another authority", func() error { return testcert.WriteFile(p.host.Config, "ca.pem", other.PEM) }, "did not issue"},
			{"no authority", func() error { return os.Remove(filepath.Join(p.host.Config, "ca.pem")) }, "tls-ca: ca.pem: no such file"},
		} {
			if err := step.put(); err != nil {
				t.Fatal(err)
			}
			err := try(t, s)
			if step.err == "" && err != nil || step.err != "" && (err == nil || !strings.Contains(err.Error(), step.err)) {
				t.Errorf("TLS %x, %s: %v, want %q", version, step.name, err, step.err)
			}
		}
	}
}

func TestNoTLS(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := start(t)
	put(t, p.host.Config, "ca.pem", string(authority(t, "x").PEM))
	err := try(t, p.open("kafka+tls://", "tls-ca=ca.pem", "timeout=1s"))
	if err == nil {
		t.Error("no error")
	}
}
