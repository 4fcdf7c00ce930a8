package server

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// ofNodes says whether a declaration is of what runs on every node.
func ofNodes(d ast.Decl) bool {
	types := []string{"Node", "NodeConfig", "Access"}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return d.Name.Name == "NewNode"
		}
		of, ok := d.Recv.List[0].Type.(*ast.StarExpr)
		return ok && slices.Contains(types, of.X.(*ast.Ident).Name)
	case *ast.GenDecl:
		return slices.ContainsFunc(d.Specs, func(s ast.Spec) bool {
			t, ok := s.(*ast.TypeSpec)
			return ok && slices.Contains(types, t.Name.Name)
		})
	}
	return false
}

// TestANodeKnowsItsAccessOnly: nothing that a Node is made of names the control plane, which may be in another process one day.
func TestANodeKnowsItsAccessOnly(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if !ofNodes(d) {
				continue
			}
			looked++
			ast.Inspect(d, func(n ast.Node) bool {
				if name, ok := n.(*ast.Ident); ok && slices.Contains([]string{"ControlPlane", "Server", "apiserver", "controllers", "store"}, name.Name) && !qualified(d, name) {
					t.Errorf("%v: a Node knows of %s", positions.Position(name.Pos()), name.Name)
				}
				return true
			})
		}
	}
	if looked < 20 {
		t.Errorf("only %d declarations are a Node's: have they moved?", looked)
	}
}

// qualified says whether a name in a declaration is another package's, or a field's.
func qualified(in ast.Decl, name *ast.Ident) (is bool) {
	ast.Inspect(in, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel == name {
			is = true
		}
		return !is
	})
	return is
}
