package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^(#+) (.+)$`)
	mdCode    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	// what becomes of a heading in a link to it, as code hosts have it: no other characters, and spaces as hyphens
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	// a page of the documentation that a comment, a help text or a manifest names
	namedPage = regexp.MustCompile(`(?:^|[^\w/.-])(docs/(?:decisions/)?[\w-]+\.md)\b`)
	// a file of the repository that a page names, by its path from the root
	namedFile = regexp.MustCompile("`((?:[a-z0-9]+/)+[a-z0-9_]+\\.(?:go|sh|txtar))`")
	indexRow  = regexp.MustCompile(`(?m)^\| \d{4}-\d\d-\d\d \| \[.+\]\((decisions/[a-z]+\.md#[^)]+)\) \|$`)
)

// eachFile calls f with each file of the repository whose name has one of the endings, by its path from the root.
func eachFile(t *testing.T, f func(path, text string), endings ...string) {
	t.Helper()
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == ".git" || path == "bin" || path == "dist" {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return err
		}
		for _, ending := range endings {
			if !d.IsDir() && strings.HasSuffix(path, ending) {
				text, err := fs.ReadFile(root, path)
				if err != nil {
					return err
				}
				f(path, string(text))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// anchors returns the places in a page that a link can lead to: headings of the given depth or deeper.
func anchors(page string, depth int) []string {
	var found []string
	for _, m := range mdHeading.FindAllStringSubmatch(page, -1) {
		if len(m[1]) < depth {
			continue
		}
		text := mdLink.ReplaceAllString(m[2], "]") // a heading that is a link goes by its text
		text = notInAnchor.ReplaceAllString(strings.ToLower(text), "")
		found = append(found, strings.ReplaceAll(text, " ", "-"))
	}
	return found
}

// resolves says whether a link of a page leads to a file, a folder or a heading.
func resolves(page, link string) bool {
	file, anchor, _ := strings.Cut(link, "#")
	target := filepath.Join("..", page)
	if file != "" {
		target = filepath.Join(filepath.Dir(target), file)
	}
	if anchor == "" {
		_, err := os.Stat(target)
		return err == nil
	}
	text, err := os.ReadFile(target)
	return err == nil && slices.Contains(anchors(string(text), 1), anchor)
}

func TestDocsLinksResolve(t *testing.T) {
	links := 0
	eachFile(t, func(path, text string) {
		for _, m := range mdLink.FindAllStringSubmatch(mdCode.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			if !resolves(path, m[1]) {
				t.Errorf("%s: the link to %s leads nowhere", path, m[1])
			}
		}
	}, ".md")
	if links < 50 {
		t.Errorf("%d links were found: does the test still see them?", links)
	}
}

// TestDocsNameFilesThatExist holds for the pages that say where things are in the code.
func TestDocsNameFilesThatExist(t *testing.T) {
	eachFile(t, func(path, text string) {
		for _, m := range namedFile.FindAllStringSubmatch(text, -1) {
			if !resolves("README.md", m[1]) && !resolves(path, m[1]) {
				t.Errorf("%s names %s, which is not there", path, m[1])
			}
		}
	}, ".md")
}

// TestDocsNamedElsewhereExist looks at what comments, help texts, manifests and scripts say.
func TestDocsNamedElsewhereExist(t *testing.T) {
	eachFile(t, func(path, text string) {
		for _, m := range namedPage.FindAllStringSubmatch(text, -1) {
			if !resolves("README.md", m[1]) {
				t.Errorf("%s names %s, which is not there", path, m[1])
			}
		}
	}, ".go", ".sh", ".txtar", ".yaml", ".yml", ".service", "Makefile", ".md")
}

// TestDocsDecisionsAreListed holds that each decision has its row, with a date, in docs/decisions.md.
func TestDocsDecisionsAreListed(t *testing.T) {
	listed := map[string]bool{}
	index, err := os.ReadFile("../docs/decisions.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range indexRow.FindAllStringSubmatch(string(index), -1) {
		listed[m[1]] = true
	}
	eachFile(t, func(path, text string) {
		name, ok := strings.CutPrefix(path, "docs/decisions/")
		if !ok {
			return
		}
		for _, anchor := range anchors(text, 2) {
			if !listed["decisions/"+name+"#"+anchor] {
				t.Errorf("%s#%s has no row with a date in docs/decisions.md", path, anchor)
			}
		}
	}, ".md")
}
