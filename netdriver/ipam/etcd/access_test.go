package etcd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dockline/dockline/internal/testcert"
	"github.com/dockline/dockline/internal/testport"
	"github.com/dockline/dockline/netdriver/ipam"
)

// A user with a password, on a connection on which both show certificates, all
// from files; one of them is wrong at first, and put right while it runs.
func TestTLSAndUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := testcert.New("ca")
	ok(t, err)
	mine, err := ca.Issue(24*time.Hour, "127.0.0.1")
	ok(t, err)
	theirs, err := ca.Issue(24*time.Hour, "dockline")
	ok(t, err)
	ok(t, testcert.WriteFile(dir, "ca.pem", ca.PEM))
	ok(t, mine.Write(dir, "server"))
	ok(t, theirs.Write(dir, "client"))
	file := func(name string) string { return filepath.Join(dir, name) }
	s := &server{t: t, dir: t.TempDir()}
	s.endpoint, s.peer = "https://"+testport.Of(t), "http://"+testport.Of(t)
	s.args = []string{"--cert-file", file("server.pem"), "--key-file", file("server.key"), "--client-cert-auth", "--trusted-ca-file", file("ca.pem")}
	s.start()
	t.Cleanup(s.kill)
	settings := Settings{Endpoints: []string{s.endpoint}, CA: file("ca.pem"), Cert: file("client.pem"), Key: file("client.key"), Prefix: DefaultPrefix}
	conf, err := settings.client()
	ok(t, err)
	conf.DialTimeout, conf.Logger = 20*time.Second, zap.NewNop()
	s.client, err = clientv3.New(conf)
	ok(t, err)
	t.Cleanup(func() { _ = s.client.Close() })
	s.answers()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, user := range []string{"root", "dockline"} {
		_, err := s.client.RoleAdd(ctx, user)
		ok(t, err)
		_, err = s.client.UserAdd(ctx, user, "secret")
		ok(t, err)
		_, err = s.client.UserGrantRole(ctx, user, user)
		ok(t, err)
	}
	_, err = s.client.RoleGrantPermission(ctx, "dockline", DefaultPrefix+"/", clientv3.GetPrefixRangeEnd(DefaultPrefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite))
	ok(t, err)
	_, err = s.client.AuthEnable(ctx)
	ok(t, err)

	ok(t, testcert.WriteFile(dir, "password", []byte("wrong\n")))
	settings.User, settings.PasswordFile = "dockline", file("password")
	h := newHostWith(t, "a", settings)
	await(t, "the wrong password is said", func() bool { return strings.Contains(h.b.Status().Fault, "authentication failed") })
	ok(t, testcert.WriteFile(dir, "password", []byte("secret\n")))
	await(t, "the right one is read", func() bool { return !h.faulty() })
	p := h.pool(subnet)
	h.get(p, "web")
	// The connection that there is goes on without the file; not where etcd does not
	// answer in time, as on a busy machine.
	for tries := 0; ; tries++ {
		ok(t, os.Remove(file("ca.pem")))
		h.b.lost(os.ErrDeadlineExceeded)
		anew := false
		await(t, "it answers, or wants another connection", func() bool {
			fault := h.b.Status().Fault
			anew = strings.Contains(fault, "ca.pem")
			return fault == "" || anew
		})
		if !anew {
			break
		}
		if tries == 5 {
			t.Fatal("the connection is given up")
		}
		ok(t, testcert.WriteFile(dir, "ca.pem", ca.PEM))
		await(t, "it answers again", func() bool { return !h.faulty() })
	}
	ok(t, h.ReleasePool(p.ID))
}

func TestSettings(t *testing.T) {
	for _, tc := range []struct {
		env  map[string]string
		want string // of the error; "" for none
	}{
		{map[string]string{}, ""},
		{map[string]string{"ETCD_ENDPOINTS": "http://10.0.0.1:2379, http://10.0.0.2:2379"}, ""},
		{map[string]string{"ETCD_ENDPOINTS": "https://10.0.0.1:2379", "ETCD_CA_FILE": "/config/missing.pem"}, ""}, // at the connection
		{map[string]string{"ETCD_ENDPOINTS": "10.0.0.1:2379"}, `"10.0.0.1:2379" is not of the form`},
		{map[string]string{"ETCD_ENDPOINTS": "http://10.0.0.1"}, "is not of the form"},
		{map[string]string{"ETCD_ENDPOINTS": "http://:2379"}, "is not of the form"},
		{map[string]string{"ETCD_ENDPOINTS": "https://root:secret@10.0.0.1:2379"}, "say ETCD_USER"},
		{map[string]string{"ETCD_ENDPOINTS": "http://a:1,https://b:1"}, "some are http and some https"},
		{map[string]string{"ETCD_ENDPOINTS": "https://a:1"}, "ETCD_CA_FILE is needed"},
		{map[string]string{"ETCD_ENDPOINTS": "http://a:1", "ETCD_CA_FILE": "x"}, "for https"},
		{map[string]string{"ETCD_ENDPOINTS": "https://a:1", "ETCD_CA_FILE": "x", "ETCD_CERT_FILE": "x"}, "go together"},
		{map[string]string{"ETCD_ENDPOINTS": "http://a:1", "ETCD_PASSWORD": "x"}, "without ETCD_USER"},
		{map[string]string{"ETCD_ENDPOINTS": "http://a:1", "ETCD_USER": "x"}, "needs one of"},
		{map[string]string{"ETCD_ENDPOINTS": "http://a:1", "ETCD_PREFIX": "x"}, "does not begin with a slash"},
	} {
		_, set, err := ParseSettings(func(key string) string { return tc.env[key] })
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is shown: %v", err)
		}
		if tc.want == "" && (err != nil || set != (len(tc.env) > 0)) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%v: set %v, %v, want %q", tc.env, set, err, tc.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct{ key, value, want string }{
		{"segment", "rack-7", ""},
		{"segment", "a/b", "not a name"},
		{"share", "..", "not a name"},
		{"reserve", "256", ""},
		{"reserve", "257", "from 0 to 256"},
		{"hold", "10m", ""},
		{"hold", "10", "not a duration"},
		{"hodl", "10m", `"hold"`},
	} {
		_, err := parseOptions(map[string]string{"backend": Name, tc.key: tc.value})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s=%s: %v, want %q", tc.key, tc.value, err, tc.want)
		}
	}
	b := &Backend{}
	if _, err := b.Prepare(t.Context(), ipam.PoolRequest{Options: map[string]string{}}); err == nil || !strings.Contains(err.Error(), "--subnet") {
		t.Errorf("without a subnet: %v", err)
	}
}
