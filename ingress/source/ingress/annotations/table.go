package annotations

import (
	"fmt"
	"strings"
)

// Table is the table of what is carried out, for docs/ingress.md.
func Table() string {
	var b strings.Builder
	b.WriteString("| annotation | value | both prefixes | what it does |\n|---|---|---|---|\n")
	for _, r := range honouredRows() {
		name, prefixes := listed(r.Names), "yes"
		if r.Closes {
			name += " 🔒"
		}
		switch {
		case r.Own:
			prefixes = "only ours"
		case r.Names == "rewrite-target":
			prefixes = "differs"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, r.Values, prefixes, r.Text)
	}
	return b.String()
}

// Reference lists all that is not carried out, controller by controller, for docs/annotations.md.
func Reference() string {
	var b strings.Builder
	for _, c := range Controllers() {
		where := listed(strings.Join(c.Prefixes, " "))
		if c.Services {
			where += ". What closes does so on a Service, too, for all Ingresses that send to it."
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| annotation | here | why |\n|---|---|---|\n", c.Name, where)
		for _, effect := range []Effect{Restricts, HTTPSOnly, Harmless} {
			for _, r := range c.Rows {
				if r.Effect == effect {
					fmt.Fprintf(&b, "| %s | %s | %s |\n", listed(r.Names), r.here(), r.Text)
				}
			}
		}
	}
	return b.String()
}

func (r *Row) here() string {
	text := map[Effect]string{Restricts: "closes", HTTPSOnly: "redirects", Harmless: "ignored"}[r.Effect]
	if r.HostWide {
		text += " the host"
	}
	if r.judge.unless != "" {
		text += ", unless " + r.judge.unless
	}
	return text
}

func listed(names string) string {
	return "`" + strings.Join(strings.Fields(names), "`, `") + "`"
}
