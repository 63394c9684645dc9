// Renders a Helm chart as `helm template` does: Go's own text/template, with the functions that the exported charts
// use, which helm takes from sprig. Usage: go run main.go CHART < VALUES.json
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

type files struct{ chart string }

// Get is .Files.Get: the content of a file of the chart, outside of templates.
func (f files) Get(name string) string {
	data, err := os.ReadFile(filepath.Join(f.chart, name))
	if err != nil {
		return ""
	}
	return string(data)
}

func main() {
	chart := os.Args[1]
	var values map[string]interface{}
	if err := json.NewDecoder(os.Stdin).Decode(&values); err != nil {
		panic(err)
	}
	functions := template.FuncMap{
		"quote":     func(v interface{}) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"toString":  func(v interface{}) string { return fmt.Sprint(v) },
		"sha256sum": func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) },
		"trunc":     func(n int, text string) string { return text[:n] },
		"toJson": func(v interface{}) string {
			data, err := json.Marshal(v)
			if err != nil {
				panic(err)
			}
			return string(data)
		},
	}
	data := map[string]interface{}{"Values": values, "Files": files{chart}}
	paths, _ := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		parsed := template.Must(template.New(filepath.Base(path)).Funcs(functions).Option("missingkey=error").Parse(string(text)))
		var out strings.Builder
		if err := parsed.Execute(&out, data); err != nil {
			panic(err)
		}
		fmt.Printf("---\n# Source: %s\n%s\n", filepath.Base(path), out.String())
	}
}
