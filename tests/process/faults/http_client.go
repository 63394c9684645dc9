// One GET, and what this client makes of the answer: "STATUS BYTES complete|broken MILLISECONDS".
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	began := time.Now()
	status, size, end := 0, 0, "broken"
	if response, err := http.Get(os.Args[1]); err == nil {
		body, err := io.ReadAll(response.Body)
		status, size = response.StatusCode, len(body)
		if err == nil {
			end = "complete"
		}
	}
	fmt.Println(status, size, end, time.Since(began).Milliseconds())
}
