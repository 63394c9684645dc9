// A gateway the way a first course writes one: fetch, read all, write all.
package main

import (
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	upstream := os.Args[1]
	users := func(w http.ResponseWriter, r *http.Request) {
		response, err := http.Get(upstream + "/users")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}
	http.HandleFunc("/users", users)
	http.HandleFunc("/users/", users) // for paths that differ
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(listener.Addr().String() + "\n")
	http.Serve(listener, nil)
}
