package docs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What is here takes the place of servers that are no Debian packages. Each does
// what pages ask of it, and refuses the rest.

// loki takes pushes and answers queries for one label.
type loki struct {
	mu      sync.Mutex // guards streams
	streams []push.Stream
}

func (w *world) loki(addr string) {
	l, mux := &loki{}, http.NewServeMux()
	mux.HandleFunc("POST /loki/api/v1/push", l.push)
	mux.HandleFunc("GET /loki/api/v1/query_range", l.query)
	w.serve(addr, mux)
}

func (l *loki) push(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	var request push.PushRequest
	if err == nil {
		err = request.Unmarshal(body)
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams = append(l.streams, request.Streams...)
	rw.WriteHeader(http.StatusNoContent)
}

var selector = regexp.MustCompile(`^\{(\w+="[^"]*")\}$`)

func (l *loki) query(rw http.ResponseWriter, r *http.Request) {
	label := selector.FindStringSubmatch(r.FormValue("query"))
	if label == nil {
		http.Error(rw, "parse error", http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	result := []any{}
	for _, s := range l.streams {
		if !strings.Contains(s.Labels, label[1]) {
			continue
		}
		values := [][2]string{}
		for _, e := range s.Entries {
			values = append(values, [2]string{strconv.FormatInt(e.Timestamp.UnixNano(), 10), e.Line})
		}
		result = append(result, map[string]any{"stream": s.Labels, "values": values})
	}
	reply(rw, http.StatusOK, map[string]any{"status": "success", "data": map[string]any{"resultType": "streams", "result": result}})
}

// elastic takes index templates and documents, and finds those of a field.
type elastic struct {
	mu        sync.Mutex // guards what follows
	templates map[string]bool
	documents map[string]map[string]map[string]any // by index and id
}

// elastic serves plainly, or by TLS and for who may.
func (w *world) elastic(addr string, may ...string) {
	e, mux := &elastic{templates: map[string]bool{}, documents: map[string]map[string]map[string]any{}}, http.NewServeMux()
	mux.HandleFunc("PUT /_index_template/{name}", e.template)
	mux.HandleFunc("POST /{index}/_bulk", e.bulk)
	mux.HandleFunc("GET /{index}/_search", e.search)
	if len(may) == 0 {
		w.serve(addr, mux)
		return
	}
	mux.HandleFunc("POST /_security/api_key", func(rw http.ResponseWriter, r *http.Request) {
		key, err := apiKey(r)
		if err != nil {
			reply(rw, http.StatusBadRequest, map[string]any{"error": err.Error(), "status": 400})
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		may = append(may, "ApiKey "+key)
		reply(rw, http.StatusOK, map[string]any{"name": "dockline", "encoded": key})
	})
	w.serveTLS(addr, "logs.example", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		allowed := slices.Contains(may, r.Header.Get("Authorization"))
		e.mu.Unlock()
		if !allowed {
			reply(rw, http.StatusUnauthorized, map[string]any{"error": "security_exception", "status": 401})
			return
		}
		mux.ServeHTTP(rw, r)
	}))
}

// apiKey makes a key for what is asked for, if all that writing needs is.
func apiKey(r *http.Request) (string, error) {
	var body struct {
		Name  string
		Roles map[string]struct {
			Indices []struct{ Names, Privileges []string }
		} `json:"role_descriptors"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		return "", err
	}
	indices := body.Roles["dockline"].Indices
	if body.Name == "" || len(indices) != 1 || !slices.Equal(indices[0].Names, []string{"logs-dockline-*"}) || !slices.Equal(indices[0].Privileges, []string{"auto_configure", "create_doc"}) {
		return "", fmt.Errorf("the key would not do: %+v", body)
	}
	return "bmV3IGtleQ==", nil
}

func (e *elastic) template(rw http.ResponseWriter, r *http.Request) {
	var body struct {
		IndexPatterns []string       `json:"index_patterns"`
		DataStream    map[string]any `json:"data_stream"`
		Template      map[string]any `json:"template"`
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	if err == nil && (len(body.IndexPatterns) == 0 || body.DataStream == nil || body.Template == nil || r.Header.Get("Content-Type") != "application/json") {
		err = errors.New("no index template")
	}
	if err != nil {
		reply(rw, http.StatusBadRequest, map[string]any{"error": err.Error(), "status": 400})
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.templates[r.PathValue("name")] = true
	reply(rw, http.StatusOK, map[string]any{"acknowledged": true})
}

func (e *elastic) bulk(rw http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	index := r.PathValue("index")
	if e.documents[index] == nil {
		e.documents[index] = map[string]map[string]any{}
	}
	items := []any{}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var action map[string]struct {
			ID string `json:"_id"`
		}
		var document map[string]any
		err := json.Unmarshal(lines.Bytes(), &action)
		if !lines.Scan() || err != nil || json.Unmarshal(lines.Bytes(), &document) != nil || action["create"].ID == "" {
			http.Error(rw, "no bulk request", http.StatusBadRequest)
			return
		}
		e.documents[index][action["create"].ID] = document
		items = append(items, map[string]any{"create": map[string]any{"status": 201}})
	}
	reply(rw, http.StatusOK, map[string]any{"errors": false, "items": items})
}

func (e *elastic) search(rw http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	field, value, ok := strings.Cut(r.FormValue("q"), ":")
	documents := e.documents[r.PathValue("index")]
	if !ok || documents == nil || !e.templates["dockline"] {
		reply(rw, http.StatusNotFound, map[string]any{"error": "no such index, or no template for it", "status": 404})
		return
	}
	hits := []any{}
	for id, d := range documents {
		if lookup(d, field) == value {
			hits = append(hits, map[string]any{"_id": id, "_source": d})
		}
	}
	reply(rw, http.StatusOK, map[string]any{"hits": map[string]any{"total": map[string]any{"value": len(hits)}, "hits": hits}})
}

// lookup follows a dotted name, whether the document has it nested or not.
func lookup(d map[string]any, field string) any {
	if v, ok := d[field]; ok {
		return v
	}
	head, rest, ok := strings.Cut(field, ".")
	inner, is := d[head].(map[string]any)
	if !ok || !is {
		return nil
	}
	return lookup(inner, rest)
}

// kafka is a broker, and the two of Kafka's own commands that pages use.
func (w *world) kafka(addr string) {
	w.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		w.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, _ string) (ln net.Listener, err error) {
		w.logs.Do(func() error {
			ln, err = net.Listen(network, net.JoinHostPort(host, port))
			return err
		})
		return ln, err
	}))
	if err != nil {
		w.Fatal(err)
	}
	w.until(func() error {
		cluster.Close()
		return nil
	})
	rack1 := w.rack1.Host.Host // clients outlive the page
	client := func(options ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append(options, kgo.SeedBrokers(addr), kgo.Dialer(func(ctx context.Context, network, to string) (conn net.Conn, err error) {
			err = rack1.Do(func() error {
				conn, err = new(net.Dialer).DialContext(ctx, network, to)
				return err
			})
			return conn, err
		}))...)
	}
	w.dialKafka = client
	w.kafkaTopics, w.kafkaConsumer = func(args []string) (string, error) {
		return createTopic(w.Context(), client, addr, args)
	}, func(args []string) (string, error) {
		return consume(w.Context(), client, addr, args)
	}
}

type dialKafka func(...kgo.Opt) (*kgo.Client, error)

// flags reads options that have a value, and those that have none; all have to be there.
func flags(args []string, valued, bare []string) (map[string]string, error) {
	got := map[string]string{}
	for i := 0; i < len(args); i++ {
		name := strings.TrimPrefix(args[i], "--")
		switch {
		case strings.Contains(" "+strings.Join(bare, " ")+" ", " "+name+" "):
			got[name] = "yes"
		case strings.Contains(" "+strings.Join(valued, " ")+" ", " "+name+" ") && i+1 < len(args):
			i++
			got[name] = args[i]
		default:
			return nil, fmt.Errorf("%s is not a recognized option", args[i])
		}
	}
	if len(got) != len(valued)+len(bare) {
		return nil, fmt.Errorf("missing required argument: of %q and %q there are %v", valued, bare, got)
	}
	return got, nil
}

func createTopic(ctx context.Context, dial dialKafka, addr string, args []string) (string, error) {
	got, err := flags(args, []string{"bootstrap-server", "topic", "partitions"}, []string{"create"})
	if err != nil {
		return "", err
	}
	partitions, err := strconv.Atoi(got["partitions"])
	if err != nil || got["bootstrap-server"] != addr {
		return "", fmt.Errorf("cannot reach %s (%w)", got["bootstrap-server"], err)
	}
	client, err := dial()
	if err != nil {
		return "", err
	}
	defer client.Close()
	request, topic := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = got["topic"], int32(partitions), -1
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(ctx, client)
	if err == nil && answer.Topics[0].ErrorCode != 0 {
		err = fmt.Errorf("the broker says %d", answer.Topics[0].ErrorCode)
	}
	return "Created topic " + got["topic"] + ".\n", err
}

func consume(ctx context.Context, dial dialKafka, addr string, args []string) (string, error) {
	got, err := flags(args, []string{"bootstrap-server", "topic", "max-messages"}, []string{"from-beginning"})
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(got["max-messages"])
	if err != nil || got["bootstrap-server"] != addr {
		return "", fmt.Errorf("cannot reach %s (%w)", got["bootstrap-server"], err)
	}
	client, err := dial(kgo.ConsumeTopics(got["topic"]), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, arriveTime, errors.New("there is no message"))
	defer cancel()
	var out strings.Builder
	for n > 0 {
		fetches := client.PollRecords(ctx, n)
		if err := fetches.Err(); err != nil {
			return "", err
		}
		for _, r := range fetches.Records() {
			fmt.Fprintf(&out, "%s\n", r.Value)
			n--
		}
	}
	return out.String(), nil
}
