package kafka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dockline/dockline/logdriver/ship"
	"github.com/dockline/dockline/logdriver/sink/internal/placeholder"
)

// maxTopic bounds a topic's name (org.apache.kafka.common.internals.Topic).
const maxTopic = 249

// topic says which topic a stream's records go to. What a topic's name cannot have
// (anything but letters, digits, dot, dash and underscore, all of ASCII) reads as
// underscores.
type topic struct{ placeholder.Template }

var errTopic = errors.New("name the topic, such as topic=logs or topic=logs.{compose_project|other}")

func parseTopic(text string) (topic, error) {
	if text == "" {
		return topic{}, errTopic
	}
	t, err := placeholder.Parse(text, checkText)
	if err != nil {
		return topic{}, err
	}
	if t.Fixed() && (len(text) > maxTopic || text == "." || text == "..") {
		return topic{}, fmt.Errorf("a topic's name has at most %d characters, and neither . nor .. is one", maxTopic)
	}
	return topic{t}, nil
}

func checkText(s string) error {
	if i := strings.IndexFunc(s, unfit); i >= 0 {
		return fmt.Errorf("a topic's name has no %q: letters, digits, dots, dashes and underscores are all that there is", s[i:i+1])
	}
	return nil
}

// unfit reports whether a topic's name cannot have c.
func unfit(c rune) bool {
	fit := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
	return !fit
}

// of returns the topic of a stream, always one that can be.
func (t topic) of(m *ship.Meta) string {
	name := t.Expand(m, func(value string) string {
		return strings.Map(func(c rune) rune {
			if unfit(c) {
				return '_'
			}
			return c
		}, value)
	})
	if name == "" || name == "." || name == ".." {
		return placeholder.Nothing
	}
	return name[:min(len(name), maxTopic)]
}
