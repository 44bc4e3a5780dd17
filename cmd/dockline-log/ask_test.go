package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/admin"
	"github.com/dockline/dockline/internal/pluginserver"
)

// serve answers on a socket as a plugin does that has delivered everything when
// it is asked for the third time.
func serve(t *testing.T) (socket string, asked *int) {
	t.Helper()
	socket, asked = filepath.Join(t.TempDir(), "admin.sock"), new(int)
	l, err := pluginserver.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(slog.New(slog.DiscardHandler))
	s.Handle("/where", func(r *http.Request) (any, error) {
		q := r.URL.Query()
		return nil, fmt.Errorf("no container %q, from %s", q.Get("container"), q.Get("from"))
	})
	s.Handle("/drain", func(*http.Request) (any, error) {
		if *asked++; *asked < 3 {
			return nil, errors.New("9B of 1 containers are not delivered yet")
		}
		return "drained", nil
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket, asked
}

func TestDrainAsksUntilAllIsDelivered(t *testing.T) {
	socket, asked := serve(t)
	if err := ask(t.Context(), []string{"drain", "-socket", socket}); err != nil || *asked != 3 {
		t.Errorf("drain ended in %v, asked %d times", err, *asked)
	}
}

func TestCommandsThatCannotBe(t *testing.T) {
	socket, _ := serve(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"unknown":            {[]string{"empty"}, `no command "empty"`},
		"too much":           {[]string{"drain", "now"}, `"now" is too much`},
		"unknown option":     {[]string{"drain", "-force"}, "force"},
		"not a plugin's":     {[]string{"status"}, "say with -socket"},
		"not running":        {[]string{"status", "-socket", socket + "x"}, "is it enabled?"},
		"refused":            {[]string{"status", "-socket", socket}, "404"},
		"not in time":        {[]string{"drain", "-socket", socket, "-timeout", "1ns"}, "not drained within"},
		"where is what":      {[]string{"where", "-socket", socket}, "say of which container"},
		"where, too much":    {[]string{"where", "web", "db", "-socket", socket}, `"db" is too much`},
		"where, refused":     {[]string{"where", "web", "-since", "1h", "-socket", socket}, `no container "web", from 1h`},
		"a duration without": {[]string{"drain", "-timeout", "5"}, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := ask(t.Context(), c.args); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v says %v, without %q", c.args, err, c.says)
			}
		})
	}
}

func TestCheckConfig(t *testing.T) {
	if err := ask(t.Context(), []string{"check-config", "../../plugin-config/dockline-log/dockline-log.yaml"}); err != nil {
		t.Errorf("the example: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("pools:\n  web: {collectors: 'rlp://a:1'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"bad":      {[]string{bad}, `bad.yaml:2: pools.web.collectors: collector "rlp://a:1": no sink speaks "rlp", did you mean "relp"?`},
		"missing":  {[]string{bad + "x"}, "no such file"},
		"no file":  {nil, "needs the name of a file"},
		"too many": {[]string{bad, bad}, "needs the name of a file"},
		"a flag":   {[]string{"-socket"}, "needs the name of a file"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := ask(t.Context(), append([]string{"check-config"}, c.args...)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v says %v, without %q", c.args, err, c.says)
			}
		})
	}
}
