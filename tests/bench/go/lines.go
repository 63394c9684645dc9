// Send each line of a file as a message with pipelined confirms, or consume as many with automatic acks.
//
//	lines URL QUEUE send FILE
//	lines URL QUEUE consume COUNT
//
// Prints seconds, counted from before it connects.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const window = 1000

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func send(channel *amqp.Channel, queue, path string) {
	check(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 2*window))
	file, err := os.Open(path)
	check(err)
	waiting := 0
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		message := amqp.Publishing{ContentType: "text/plain", Body: []byte(lines.Text())}
		check(channel.PublishWithContext(context.Background(), "", queue, true, false, message))
		for waiting++; waiting >= window; waiting-- {
			<-confirms
		}
	}
	for ; waiting > 0; waiting-- {
		<-confirms
	}
}

func consume(channel *amqp.Channel, queue string, count int) {
	messages, err := channel.Consume(queue, "", true, false, false, false, nil)
	check(err)
	for ; count > 0; count-- {
		log.Printf("Received a message: %s", (<-messages).Body)
	}
}

func main() {
	begin := time.Now()
	connection, err := amqp.Dial(os.Args[1])
	check(err)
	channel, err := connection.Channel()
	check(err)
	if os.Args[3] == "send" {
		send(channel, os.Args[2], os.Args[4])
	} else {
		count, err := strconv.Atoi(os.Args[4])
		check(err)
		consume(channel, os.Args[2], count)
	}
	check(connection.Close())
	fmt.Println(time.Since(begin).Seconds())
}
