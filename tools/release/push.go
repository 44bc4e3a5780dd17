package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// tag is a plugin's name in a registry. Engines install no plugin from an index
// of several architectures, so each has a tag of its own.
func tag(plugin, version, arch string) string { return plugin + ":" + version + "-" + arch }

// imageLine says which image an archive is in a registry.
func imageLine(a artifact, file, version string) (string, error) {
	i, err := newImage(file)
	if err != nil {
		return "", err
	}
	digest, err := i.Digest()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s  %s\n", digest, tag(a.name, version, a.arch)), nil
}

// push leaves a release's plugins in a registry, under REGISTRY/NAME:VERSION-ARCH.
// A tag that has another plugin is left as it is. Who one is to the registry is
// as docker login has it.
func push(dir, registry string) error {
	files, err := checkSums(dir)
	if err != nil {
		return err
	}
	if !slices.Contains(files, imagesFile) {
		return fmt.Errorf("%s has no sum of %s", sumsFile, imagesFile)
	}
	images, err := os.ReadFile(filepath.Join(dir, imagesFile))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(images)) {
		digest, tagged, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if err := pushOne(dir, strings.TrimSuffix(registry, "/"), digest, tagged); err != nil {
			return fmt.Errorf("push %s: %w", tagged, err)
		}
	}
	return nil
}

func pushOne(dir, registry, digest, tagged string) error {
	plugin, rest, _ := strings.Cut(tagged, ":")
	at := strings.LastIndexByte(rest, '-')
	if at < 0 {
		return errors.New("this is no NAME:VERSION-ARCH")
	}
	a := artifact{name: plugin, arch: rest[at+1:], plugin: true}
	i, err := newImage(filepath.Join(dir, a.file(rest[:at])))
	if err != nil {
		return err
	}
	is, err := i.Digest()
	if err != nil {
		return err
	}
	if is.String() != digest {
		return fmt.Errorf("its image is %s here and %s in %s: build this tool by the Go release that made it", is, digest, imagesFile)
	}
	ref, err := name.NewTag(registry + "/" + tagged)
	if err != nil {
		return err
	}
	auth := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	switch there, err := remote.Head(ref, auth); {
	case err == nil && there.Digest == is:
		fmt.Fprintf(os.Stdout, "%s is there already: %s\n", ref, is)
		return nil
	case err == nil:
		return fmt.Errorf("the registry has another one of that name, %s: a version is never replaced", there.Digest)
	}
	if err := remote.Write(ref, i, auth); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s is pushed: %s\n", ref, is)
	return nil
}
