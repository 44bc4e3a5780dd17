package pool

import (
	"cmp"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/dockline/dockline/internal/options"
	"github.com/dockline/dockline/logdriver/sink"
)

// Every parameter of a collector's URL is said what it is, on its protocol's page
// or on those for several.
func TestParametersAreDocumented(t *testing.T) {
	for _, scheme := range Schemes() {
		protocol, over, _ := strings.Cut(scheme, "+")
		pages := []string{"log-driver.md", "sinks/" + cmp.Or(map[string]string{"opensearch": "elasticsearch"}[protocol], protocol) + ".md"}
		if strings.HasPrefix(over, "http") || strings.HasPrefix(over, "grpc") {
			pages = append(pages, "sinks/json.md") // what belongs to all over HTTP
		}
		var said strings.Builder
		for _, page := range pages {
			text, err := os.ReadFile("../../docs/" + page)
			if err != nil {
				t.Fatal(err)
			}
			said.Write(text)
		}
		host := "localhost:1"
		if protocol == "journald" {
			host = "localhost"
		}
		_, err := openSink([]*url.URL{{Scheme: scheme, Host: host, RawQuery: "none-such-at-all=1"}}, sink.Host{})
		var unknown *options.UnknownKeyError
		if !errors.As(err, &unknown) {
			t.Errorf("%s takes a parameter that there is not: %v", scheme, err)
			continue
		}
		for _, name := range unknown.Known {
			if strings.HasSuffix(name, ".") {
				name += "NAME"
			}
			if !strings.Contains(said.String(), "`"+name+"`") && !strings.Contains(said.String(), "`"+name+"=") {
				t.Errorf("%s: nothing in %q says what %s is", scheme, pages, name)
			}
		}
	}
}
