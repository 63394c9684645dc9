// Users: a program of another language. msctl gives it $HOST and $PORT, and expects HTTP there.
package main

import (
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

type user struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

var users = []user{{1, "Alice"}, {2, "Bob"}}

func find(path string) any {
	switch path {
	case "/healthz":
		return map[string]string{"status": "up"}
	case "/users":
		return users
	}
	id, err := strconv.Atoi(strings.TrimPrefix(path, "/users/"))
	for _, each := range users {
		if err == nil && each.ID == id {
			return each
		}
	}
	return nil
}

func handle(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	found := find(r.URL.Path)
	if found == nil {
		w.WriteHeader(http.StatusNotFound)
		found = map[string]string{"detail": "not found"}
	}
	json.NewEncoder(w).Encode(found)
}

func main() {
	address := net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT"))
	log.Printf("users on %s", address)
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(handle)))
}
