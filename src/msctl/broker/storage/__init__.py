"""The segment log of durable queues, exchanges, bindings and persistent messages.

`blocks` and `records` are the format, without I/O; `liveness` says which entries are still needed;
`log` collects records and writes them; `replay` and `recovery` read them back; `folder` owns the files;
`storage` puts it together for the server.

Theory. The log is a sequence of segments, files named by ascending numbers. A segment has a header and
blocks. A block is what one turn of the event loop wrote; it counts as a whole or not at all, by its
checksum. Blocks hold records. Everything that is stored is an *entry* with a number that is never used
again: a queue, an exchange, a binding, an item of metadata, or one message in one queue. Records put
entries and remove them:

- An entry is live if it was put and neither it nor its queue was removed or purged since.
- A message that is routed to several queues is one record with an entry for each queue.
- In a block, removals follow everything that the block puts.
- A removal refers to an entry of the same segment or an older one. Segments are dropped from the oldest
  on only, so no removal disappears before the entry that it removes.
- The numbers that a segment puts first are higher than all of older segments. An entry with a number
  below the segment's `base` was moved there: the oldest segment is dropped after its live entries have
  been written again. If both copies are found, they are equal.
- Each block carries the number of the oldest segment that belongs to the log: `first`. Older files are
  left over from an unfinished removal. A segment between `first` and the newest is missing if its file is.
- A segment is sealed by its last block after the next segment's file exists, so the newest segment
  cannot disappear unnoticed.

The log may end with an incomplete block, which a crash left and nobody was told about: it is cut.
Anything else that is wrong is damage: what is readable is recovered, the damaged file is kept aside, and
both are reported.
"""
