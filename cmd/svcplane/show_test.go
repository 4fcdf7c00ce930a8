package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/printer"
	"svcplane/server/admin"
)

// printsNothing are commands without -o, each with the reason.
var printsNothing = map[string]string{
	"svcplane":              "prints its help",
	"svcplane dns":          "prints its help",
	"svcplane image":        "prints its help",
	"svcplane ingress":      "prints its help",
	"svcplane proxy":        "prints its help",
	"svcplane completion":   "prints its help",
	"svcplane cleanup":      "prints nothing",
	"svcplane image alias":  "says what it did",
	"svcplane image import": "says what it did",
	"svcplane image export": "says what it did",
	"svcplane image prune":  "says what it did",
	"svcplane image pull":   "says what it did",
	"svcplane image rm":     "says what it did",
	"svcplane install":      "says what it did",
	"svcplane uninstall":    "says what it did",
	"svcplane kubectl":      "has kubectl's own",
	"svcplane proxy switch": "tells how far it is; `svcplane status` tells the result",
	"svcplane server":       "serves",
}

func TestEveryCommandThatPrintsHasFormats(t *testing.T) {
	everyCommand(newRoot(), func(c *cobra.Command) {
		has, reason := c.Flags().Lookup(printer.FlagOutput) != nil, printsNothing[c.CommandPath()]
		if c.HasParent() && c.Parent().Name() == "completion" {
			reason = "prints a script"
		}
		if has == (reason != "") {
			t.Errorf("%s: -o %v, a reason to have none %q", c.CommandPath(), has, reason)
		}
	})
}

// TestShapes: what programs read keeps its keys, all in lowerCamelCase; what is empty is left out.
func TestShapes(t *testing.T) {
	at, when := netip.MustParseAddrPort("10.244.0.5:8080"), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := types.NamespacedName{Namespace: "shop", Name: "web"}
	for _, tt := range []struct {
		value any
		want  string
	}{
		{admin.Status{Part: "dns", State: "serving", Since: when, Figure: "3 names"},
			`{"part":"dns","state":"serving","since":"2026-01-02T03:04:05Z","figure":"3 names"}`},
		{admin.Route{Host: "a.b", Path: "/", Kind: "Prefix", Service: "shop/web:80", Endpoints: []netip.AddrPort{at},
			Origin: admin.Origin{Kind: "Ingress", Namespace: key.Namespace, Name: key.Name, Created: when}},
			`{"host":"a.b","path":"/","pathType":"Prefix","service":"shop/web:80","endpoints":["10.244.0.5:8080"],` +
				`"origin":{"kind":"Ingress","namespace":"shop","name":"web","created":"2026-01-02T03:04:05Z"}}`},
		{urlDocumentOf(admin.Explanation{To: "a.b/", Steps: admin.Sentences(admin.StepRule, []string{"s"}), Mistakes: []string{"m"}}),
			`{"host":"a.b","path":"/","steps":["s"],"mistakes":["m"]}`},
		{admin.Table{Frontends: []admin.Frontend{{Address: at, Protocol: "TCP", Clients: "everybody", Service: "shop/web", PortName: "http",
			Action: "balance", Masquerade: "hairpin", Affinity: 3600}}},
			`{"frontends":[{"address":"10.244.0.5:8080","protocol":"TCP","clients":"everybody","service":"shop/web",` +
				`"portName":"http","action":"balance","masquerade":"hairpin","affinitySeconds":3600}]}`},
		{admin.Tally{Service: "shop/web:http", Protocol: "TCP", Subject: admin.CountedServing, Endpoint: at, Open: 1, Total: 2},
			`{"service":"shop/web:http","protocol":"TCP","subject":"serving","endpoint":"10.244.0.5:8080","open":1,"total":2,` +
				`"sent":{"packets":0,"bytes":0},"received":{"packets":0,"bytes":0}}`},
		{dialDocuments([]admin.Explanation{{From: "c", To: "a", Outcome: "balance", Steps: []admin.Step{
			{Kind: admin.StepDecision, Why: "s"}, {Kind: admin.StepEndpoint, Endpoint: at, Chosen: true, Why: "w"},
		}}}), `[{"client":"c","address":"a","action":"balance","steps":["s"],"endpoints":[{"address":"10.244.0.5:8080","takes":true,"why":"w"}]}]`},
		{nameDocumentOf([]admin.Explanation{{From: "the node", To: "web. A", Outcome: "NXDOMAIN", Steps: admin.Sentences(admin.StepDecision, []string{"w"}), Hints: []string{"h"}}}),
			`{"asker":"the node","trips":[{"name":"web.","type":"A","rcode":"NXDOMAIN","why":["w"]}],"hints":["h"]}`},
		{listedImage{Image: "web:1", ID: "sha256:1", Size: 5, Imported: when},
			`{"image":"web:1","id":"sha256:1","sizeBytes":5,"imported":"2026-01-02T03:04:05Z"}`},
		{listedImage{Image: "nginx", AliasOf: "svcplane/echo"}, `{"image":"nginx","aliasOf":"svcplane/echo"}`},
		{versions{"1", "2", "3"}, `{"version":"1","kubernetesVersion":"2","goVersion":"3"}`},
	} {
		got, err := json.Marshal(tt.value)
		if err != nil || string(got) != tt.want {
			t.Errorf("%T: %v\ngot  %s\nwant %s", tt.value, err, got, tt.want)
		}
	}
}

// fakeServer is the admin socket of a server that answers so.
func fakeServer(t *testing.T, answers map[string]any) (dataDir string) {
	t.Helper()
	dir := t.TempDir()
	a, err := admin.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	for pattern, answer := range answers {
		verb, path, _ := strings.Cut(pattern, " ")
		admin.Method[any, any]{Verb: verb, Path: path}.Handle(a, func(_ context.Context, request any) (any, error) {
			switch answer := answer.(type) {
			case error:
				return nil, answer
			case func(kind string) any:
				return answer(request.(map[string]any)["kind"].(string)), nil
			}
			return answer, nil
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return dir
}

func TestWhatIsNotSoEndsWithOne(t *testing.T) {
	dir := fakeServer(t, map[string]any{
		"GET /status":          []admin.Status{{Part: "api", State: "serving"}, {Part: "dns", State: "degraded"}},
		"GET /proxy/diff":      []string{"missing: 10.96.0.1:443"},
		"POST /proxy/diff":     []string{"missing: 10.96.0.1:443"},
		"GET /ingress/explain": admin.Explanation{To: "a/", Hints: []string{"did you mean b?"}},
		"GET /dns/query":       []admin.Explanation{{To: "web. A", Outcome: "NXDOMAIN", Hints: []string{"did you mean wed?"}}},
		"GET /proxy/explain":   admin.Blame(http.ErrNotSupported),
		"GET /ingress/routes":  []admin.Route{},
	})
	for _, tt := range []struct {
		args, out, errOut string
		code              int
	}{
		{"status", "dns    degraded", "not serving: dns", exitNo},
		{"status -o json", `"state": "degraded"`, "not serving: dns", exitNo},
		{"proxy diff", "missing: 10.96.0.1:443\n", "differs in 1 lines", exitNo},
		{"proxy diff -o yaml", "- 'missing: 10.96.0.1:443'\n", "differs in 1 lines", exitNo},
		{"proxy diff --repair", "missing: 10.96.0.1:443\n", "", exitYes},
		{"ingress explain http://a/", "host a", "it is answered 404: did you mean b?", exitNo},
		{"dns query web", "NXDOMAIN", "web is answered NXDOMAIN: did you mean wed?", exitNo},
		{"proxy explain 10.96.0.1", "", "not supported", exitWrong},
		{"ingress routes --json", "[]\n", "", exitYes},
		{"ingress routes -o json", "[]\n", "", exitYes},
		{"ingress routes -o jsn", "", "must be table, json or yaml", exitWrong},
	} {
		code, out, errOut := invoke(t, append(strings.Fields(tt.args), "--data-dir", dir)...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errOut, tt.errOut) {
			t.Errorf("%s: %d, %q, %q", tt.args, code, out, errOut)
		}
	}
}

// TestAnAnswerIsTheSameWhileItAges: the time that records have left, and their order, are no change.
func TestAnAnswerIsTheSameWhileItAges(t *testing.T) {
	essence := func(records ...string) string {
		trip := tripDocument{Name: "web.", Type: "A", Rcode: "NOERROR", Records: records, Why: []string{records[0]}}
		text, err := json.Marshal(nameDocument{Trips: []tripDocument{trip}}.essence())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	a := essence("web. 5 IN A 10.0.0.1", "web. 5 IN A 10.0.0.2")
	if b := essence("web. 4 IN A 10.0.0.2", "web. 4 IN A 10.0.0.1"); a != b {
		t.Errorf("%s is not %s", a, b)
	}
	if c := essence("web. 5 IN A 10.0.0.1", "web. 5 IN A 10.0.0.3"); a == c {
		t.Errorf("%s is %s", a, c)
	}
}
