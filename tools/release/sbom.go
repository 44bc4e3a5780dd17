package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/licensedetect"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/licensedetect/local"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"golang.org/x/mod/module"
)

const gomod = "github.com/CycloneDX/cyclonedx-gomod"

// writeSBOM writes beside an artifact which modules the program in it was linked
// from, the standard library included, as a CycloneDX document. It is read from
// the binary. Its serial number is made of the artifact's sum.
func writeSBOM(a artifact, file string, rel release, licences *licences) error {
	g, err := bin.NewGenerator(a.binary(), bin.WithIncludeStdlib(true), bin.WithVersionOverride("v"+rel.version), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return err
	}
	bom, err := g.Generate()
	if err != nil {
		return err
	}
	if err := licences.add(*bom.Components); err != nil {
		return err
	}
	digest, err := sum(file)
	if err != nil {
		return err
	}
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(filepath.Base(file)+" "+digest)).URN()
	bom.Metadata.Timestamp = rel.date.Format(time.RFC3339)
	bom.Metadata.Tools = &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: gomod, Version: version(gomod)}}}
	main := bom.Metadata.Component
	main.Description = filepath.Base(file)
	main.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: digest}}
	main.Licenses = &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}
	path := strings.TrimSuffix(file, archived) + ".cdx.json"
	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil { // whatever the umask
		return err
	}
	return out.Close()
}

// version is of a module that this program is linked from.
func version(path string) string {
	info, _ := debug.ReadBuildInfo()
	i := slices.IndexFunc(info.Deps, func(m *debug.Module) bool { return m.Path == path })
	return info.Deps[i].Version
}

// licences finds modules' licences in the module cache, which has what was just
// compiled. (The generator would download the modules, our own too, and say
// something else once that is published.)
type licences struct {
	cache    string // GOMODCACHE
	detector licensedetect.Detector
	known    map[string]*cdx.Licenses // by path and version
}

func newLicences() *licences {
	return &licences{detector: local.NewDetector(zerolog.Nop()), known: map[string]*cdx.Licenses{}}
}

// add adds to components what their licences seem to be.
func (l *licences) add(components []cdx.Component) error {
	for i := range components {
		c := &components[i]
		if c.Name == "std" {
			c.Licenses = &cdx.Licenses{{License: &cdx.License{ID: "BSD-3-Clause"}}}
			continue
		}
		found, err := l.of(c.Name, c.Version)
		if err != nil {
			return fmt.Errorf("find the licence of %s: %w", c.Name, err)
		}
		if found != nil {
			c.Evidence = &cdx.Evidence{Licenses: found}
		}
	}
	return nil
}

func (l *licences) of(path, version string) (*cdx.Licenses, error) {
	key := path + "@" + version
	if found, ok := l.known[key]; ok {
		return found, nil
	}
	dir, err := l.dir(path, version)
	if err != nil {
		return nil, err
	}
	licenses, err := l.detector.Detect(path, version, dir)
	if err != nil {
		return nil, err
	}
	var found *cdx.Licenses
	if len(licenses) > 0 {
		slices.SortFunc(licenses, func(a, b cdx.License) int { return cmp.Compare(a.ID, b.ID) })
		found = &cdx.Licenses{}
		for _, one := range licenses {
			*found = append(*found, cdx.LicenseChoice{License: &one})
		}
	}
	l.known[key] = found
	return found, nil
}

// dir is a module's in the cache.
func (l *licences) dir(path, version string) (string, error) {
	if l.cache == "" {
		out, err := exec.Command("go", "env", "GOMODCACHE").Output()
		if err != nil {
			return "", fmt.Errorf("ask go for its module cache: %w", err)
		}
		l.cache = strings.TrimSpace(string(out))
	}
	p, err := module.EscapePath(path)
	if err != nil {
		return "", err
	}
	v, err := module.EscapeVersion(version)
	if err != nil {
		return "", err
	}
	return filepath.Join(l.cache, p+"@"+v), nil
}
