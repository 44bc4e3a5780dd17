package engine

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

// An engine is told what the plugin is, as it will be once it is set right, and the
// reason for all else.
func TestRefusing(t *testing.T) {
	for call, want := range map[string][2]string{
		networksAre:                   {`"Scope":"local"`, `"Scope":"local"`},
		addressSpaces:                 {`"LocalDefaultAddressSpace":"`, `"LocalDefaultAddressSpace":"`},
		addressesAre:                  {`"RequiresMACAddress":false,"RequiresRequestReplay":true`, `"RequiresMACAddress":true,"RequiresRequestReplay":true`},
		createNetwork:                 {"not set up right", "not set up right"},
		"/IpamDriver.RequestAddress":  {"not set up right", "not set up right"},
		"/NetworkDriver.FreeNetwork":  {"not set up right", "not set up right"},
		"/NetworkDriver.DiscoverNew":  {"not set up right", "not set up right"},
		"/IpamDriver.ReleaseNotKnown": {"not set up right", "not set up right"},
	} {
		for i, requireMAC := range []bool{false, true} {
			w := httptest.NewRecorder()
			Refusing(errors.New("it is not set up right"), requireMAC, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("POST", call, strings.NewReader("{}")))
			if got := w.Body.String(); w.Code != 200 || !strings.Contains(got, want[i]) {
				t.Errorf("%s: %d, %s", call, w.Code, got)
			}
		}
	}
}
