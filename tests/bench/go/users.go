// The users service the way a first course writes one.
package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
)

type user struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

func main() {
	users := []user{{1, "Alice"}, {2, "Bob"}}
	http.HandleFunc("/users", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(users)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(listener.Addr().String() + "\n")
	http.Serve(listener, nil)
}
