package discover

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// A Consul that never stops talking, sends us elsewhere, or names too many, is a
// source that fails; the token goes nowhere else.
func TestConsulIsBounded(t *testing.T) {
	var stolen atomic.Value
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen.Store(r.Header.Get("X-Consul-Token")) }))
	t.Cleanup(elsewhere.Close)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("t0ken"), 0o600); err != nil {
		t.Fatal(err)
	}
	endless := func(w http.ResponseWriter, begin, more string) {
		_, _ = w.Write([]byte(begin))
		for n := 0; n < 4*maxAnswer; n += 1000 * len(more) {
			if _, err := w.Write([]byte(strings.Repeat(more, 1000))); err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"an endless list": {func(w http.ResponseWriter, _ *http.Request) { endless(w, "[{}", ",{}") }, "larger than 8388608 bytes"},
		"an endless text": {func(w http.ResponseWriter, _ *http.Request) { endless(w, `[{"Node":{"Node":"`, "aaaaaaaaaa") }, "larger than 8388608 bytes"},
		"a large one, announced": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(maxAnswer+1))
			endless(w, "[{}", ",{}")
		}, "larger than 8388608 bytes"},
		"an endless error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); endless(w, "no", "\x1b[2J") }, "500"},
		"a long error":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, strings.Repeat("no\n\x1b", 1<<18), 500) }, "500"},
		"another place": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "points elsewhere"},
		"too many": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("[" + strings.Repeat(`{"Node":{},"Service":{}},`, maxMembers) + `{"Node":{},"Service":{}}]`))
		}, "4097 collectors"},
		"headers that last": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("A", strings.Repeat("a", 1<<20)) }, "header"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.answer)
			t.Cleanup(server.Close)
			s := source(t, "consul+relp://"+strings.TrimPrefix(server.URL, "http://")+"/logs?consul-token-file=token", Host{Dir: dir})
			err := firstSaid(t, s)
			if !strings.Contains(err, tc.want) || len(err) > maxSaid+10 || strings.ContainsAny(err, "\n\x1b") {
				t.Errorf("%.300q, want %q", err, tc.want)
			}
		})
	}
	if stolen.Load() != nil {
		t.Errorf("another place was shown %q", stolen.Load())
	}
}

// firstSaid returns the first error that a source is known for.
func firstSaid(t *testing.T, s Source) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	text := ""
	Follow(ctx, []Source{s}, nil, func(members []Collector, states []State) {
		switch {
		case len(members) > 0:
			text = "it is taken"
			cancel()
		case states[0].Err != nil:
			text = states[0].Err.Error()
			cancel()
		}
	})
	return text
}

// What etcd has is bounded as well.
func TestEtcdIsBounded(t *testing.T) {
	endpoint, client, _ := startEtcd(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 9 {
		if _, err := client.Put(ctx, fmt.Sprint("/large/", i), strings.Repeat("a", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if got := firstSaid(t, source(t, "etcd+relp://"+endpoint+"/large/", Host{})); !strings.Contains(got, "larger than max (") {
		t.Errorf("%.300q", got)
	}
	known := map[string]Collector{}
	e := source(t, "etcd+relp://"+endpoint+"/many/", Host{}).(*etcd)
	for i := range maxMembers {
		if err := e.put(known, pair(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.put(known, pair(maxMembers)); err == nil || !strings.Contains(err.Error(), "4097 collectors") {
		t.Error(err)
	}
}

func pair(i int) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: fmt.Append(nil, "/many/", i), Value: fmt.Appendf(nil, "10.0.0.1:1?name=%d", i)}
}

// many is a name that stands for very many addresses.
type many struct{ Names }

func (many) Addresses(context.Context, string) ([]netip.Addr, time.Duration, error) {
	var all []netip.Addr
	for i := range maxMembers + 1 {
		all = append(all, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	return all, time.Hour, nil
}

func TestANameWithTooManyAddresses(t *testing.T) {
	if got := firstSaid(t, source(t, "dns+relp://logs.example:1", Host{Names: many{}})); !strings.Contains(got, "4097 collectors, more than the 4096") {
		t.Errorf("%q", got)
	}
}

// Nothing outside of the two folders is read, whoever names it.
func TestFilesAreConfined(t *testing.T) {
	etc, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("relp://10.0.0.1:1"), 0o600),
		os.Symlink(secret, filepath.Join(etc, "link")), os.Symlink(filepath.Dir(secret), filepath.Join(etc, "folder")),
		os.Symlink(secret, filepath.Join(dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	host := Host{Etc: etc, Dir: dir}
	for _, entry := range []string{
		"file://" + secret, "file:///etc/../" + secret, "file:///proc/self/environ", "file:///etc/link", "file:///etc/folder/secret",
		"consul+relp://127.0.0.1:1/logs?consul-token-file=" + secret, "consul+relp://127.0.0.1:1/logs?consul-token-file=link",
		"consul+relp://127.0.0.1:1/logs?consul-token-file=../secret", "consul+relp://127.0.0.1:1/logs?consul-tls=on&consul-ca=/etc/link",
		"etcd+relp://127.0.0.1:1/logs?etcd-ca=" + secret, "etcd+relp://127.0.0.1:1/logs?etcd-user=u&etcd-password-file=/etc/folder/secret",
	} {
		all, err := Parse(entry, host)
		if err == nil {
			err = errors.New(firstSaid(t, all[0]))
		}
		if !strings.Contains(err.Error(), "can be seen") && !strings.Contains(err.Error(), "escapes") && !strings.Contains(err.Error(), "leads out") {
			t.Errorf("%s: %v", entry, err)
		}
	}
}

func TestExposed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for entry, want := range map[string]string{
		"consul+relp://10.0.0.1:8500/logs":                                                 "",
		"consul+relp://10.0.0.1:8500/logs?consul-token-file=f":                             "goes to 10.0.0.1:8500 unencrypted",
		"consul+relp://10.0.0.1:8500/logs?consul-token-file=f&consul-tls=on":               "",
		"consul+relp://127.0.0.1:8500/logs?consul-token-file=f":                            "",
		"etcd+relp://10.0.0.1:2379/logs":                                                   "",
		"etcd+relp://10.0.0.1:2379/logs?etcd-user=u&etcd-password-file=f":                  "goes to 10.0.0.1:2379 unencrypted",
		"etcd+relp://127.0.0.1:1/logs?etcd-user=u&etcd-password-file=f&etcd-endpoints=h:1": "goes to h:1 unencrypted",
		"etcd+relp://localhost:1/logs?etcd-user=u&etcd-password-file=f":                    "",
	} {
		if got := Exposed(source(t, entry, Host{Dir: dir})); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", entry, got, want)
		}
	}
}
