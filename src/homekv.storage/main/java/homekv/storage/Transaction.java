package homekv.storage;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.NoSuchElementException;
import java.util.TreeMap;
import java.util.function.Supplier;

/**
 * One attempt of a function that reads, decides and writes: what {@link Transactions#run} hands to it.
 *
 * <p>Reads one snapshot, with its own writes over it; writes are collected, and committed after the function has returned,
 * if nothing that it has read was changed by then (S17). A range counts as read as far as its iterator has come: a key added to
 * it or deleted from it is a change.
 *
 * <p>For the thread that runs the function, and until it returns; afterwards every method throws
 * {@link IllegalStateException}.
 *
 * <p>Limits: its writes and the keys and ranges that it has read count together towards {@link Limits#requestKeys()}, a
 * range with all the keys in it; with more it is refused as it commits.
 */
public final class Transaction {
    private final Transactions.View view;
    private final NavigableMap<Bytes, Op> writes = new TreeMap<>();

    /** The keys that were read, with the revision that wrote each; 0 for an absent one. */
    private final Map<Bytes, Long> readKeys = new LinkedHashMap<>();

    private final List<RangeRead> readRanges = new ArrayList<>();

    /** Whether the function has returned. */
    private boolean over;

    Transaction(Transactions.View view) {
        this.view = view;
    }

    /** What the view could not read any more: the function runs again on a newer one. */
    static final class StaleException extends RuntimeException {
        private static final long serialVersionUID = 1;

        /** Whose view it was: a function may use another transaction than its own. */
        final transient Transaction transaction;

        StaleException(Transaction transaction, RuntimeException cause) {
            super(cause.getMessage(), cause, false, false);
            this.transaction = transaction;
        }
    }

    private <T> T reading(Supplier<T> read) {
        try {
            return read.get();
        } catch (SnapshotExpiredException | RevisionOutOfRangeException e) {
            throw new StaleException(this, e);
        }
    }

    private void requireUnderWay() {
        if (over) {
            throw new IllegalStateException("the transaction is over; its function has returned");
        }
    }

    /** The revision of the snapshot that is read. */
    public long revision() {
        requireUnderWay();
        return view.revision();
    }

    /** The value of a key, as this transaction has left it, or null where it is absent. */
    public Bytes get(Bytes key) {
        requireUnderWay();
        Op written = writes.get(key);
        if (written != null) {
            return written instanceof Op.Put put ? put.value() : null;
        }
        Entry entry = reading(() -> view.get(key));
        readKeys.put(key, entry == null ? 0 : entry.modificationRevision());
        return entry == null ? null : entry.value();
    }

    /** The pairs of a range in the order of their keys, or against it, as this transaction has left them. */
    public Iterator<Map.Entry<Bytes, Bytes>> scan(Range range, boolean descending) {
        requireUnderWay();
        RangeRead read = new RangeRead(range, descending, reading(() -> view.scan(range, descending)));
        readRanges.add(read);
        return new Merge(read, new TreeMap<>(writesIn(range)), descending);
    }

    private NavigableMap<Bytes, Op> writesIn(Range range) {
        if (range.isEmpty()) {
            return new TreeMap<>();
        }
        return range.to() == null
                ? writes.tailMap(range.from(), true)
                : writes.subMap(range.from(), true, range.to(), false);
    }

    /** Gives a key a value, which is attached to no lease. */
    public void put(Bytes key, Bytes value) {
        put(key, value, 0);
    }

    /** Gives a key a value, which is attached to a lease; 0: to none. */
    public void put(Bytes key, Bytes value, long lease) {
        requireUnderWay();
        writes.put(key, new Op.Put(key, value, lease));
    }

    /** Deletes a key; where it is absent, nothing changes. */
    public void delete(Bytes key) {
        requireUnderWay();
        writes.put(key, new Op.Delete(Range.key(key), false));
    }

    /** The function has returned or failed. */
    void end() {
        over = true;
    }

    /** The command that commits this, or null if it has written nothing: then all it read is of one moment anyway. */
    Txn commit() {
        if (writes.isEmpty()) {
            return null;
        }
        List<Compare> compares = new ArrayList<>(readKeys.size() + 2 * readRanges.size());
        readKeys.forEach((key, revision) -> compares.add(Compare.lastWritten(key, revision)));
        for (RangeRead read : readRanges) {
            Range range = read.covered();
            if (range != null) {
                // A key that was added is younger than the snapshot; one that was deleted is missing from the count.
                compares.add(new Compare.Number(
                        range, Compare.Field.MODIFICATION_REVISION, Compare.Operator.LESS, view.revision() + 1));
                compares.add(new Compare.Count(range, Compare.Operator.EQUAL, read.count));
            }
        }
        return new Txn(compares, List.copyOf(writes.values()), List.of());
    }

    /** A scan of the snapshot, and how far it has come. */
    private final class RangeRead {
        private final Range range;
        private final boolean descending;
        private final Iterator<Entry> entries;
        private Entry last;
        private boolean atEnd;
        private long count;

        RangeRead(Range range, boolean descending, Iterator<Entry> entries) {
            this.range = range;
            this.descending = descending;
            this.entries = entries;
        }

        /** The next entry, or null at the end. */
        Entry next() {
            if (atEnd || !reading(entries::hasNext)) {
                atEnd = true;
                return null;
            }
            last = reading(entries::next);
            count++;
            return last;
        }

        /** What has been read of the range, or null if nothing has. */
        Range covered() {
            if (atEnd) {
                return range;
            }
            if (last == null) {
                return null;
            }
            return descending
                    ? new Range(last.key(), range.to())
                    : new Range(range.from(), Range.key(last.key()).to());
        }
    }

    /** What the snapshot has, with the transaction's own writes in its place. */
    private static final class Merge implements Iterator<Map.Entry<Bytes, Bytes>> {
        private final RangeRead read;
        private final Iterator<Map.Entry<Bytes, Op>> written;
        private final boolean descending;
        private Entry nextRead;
        private Map.Entry<Bytes, Op> nextWritten;
        private boolean begun;
        private Map.Entry<Bytes, Bytes> next;

        Merge(RangeRead read, NavigableMap<Bytes, Op> writes, boolean descending) {
            this.read = read;
            this.written =
                    (descending ? writes.descendingMap() : writes).entrySet().iterator();
            this.descending = descending;
        }

        @Override
        public boolean hasNext() {
            if (!begun) {
                begun = true;
                nextRead = read.next();
                nextWritten = written.hasNext() ? written.next() : null;
            }
            while (next == null && (nextRead != null || nextWritten != null)) {
                next = step();
            }
            return next != null;
        }

        /** Takes the first of both; null if it is a deletion. */
        private Map.Entry<Bytes, Bytes> step() {
            int order = nextRead == null
                    ? 1
                    : nextWritten == null ? -1 : nextRead.key().compareTo(nextWritten.getKey());
            order = descending && nextRead != null && nextWritten != null ? -order : order;
            if (order < 0) {
                Entry found = nextRead;
                nextRead = read.next();
                return Map.entry(found.key(), found.value());
            }
            Map.Entry<Bytes, Op> found = nextWritten;
            nextWritten = written.hasNext() ? written.next() : null;
            if (order == 0) {
                nextRead = read.next(); // It has been written over.
            }
            return found.getValue() instanceof Op.Put put ? Map.entry(put.key(), put.value()) : null;
        }

        @Override
        public Map.Entry<Bytes, Bytes> next() {
            if (!hasNext()) {
                throw new NoSuchElementException("the range has no more keys");
            }
            Map.Entry<Bytes, Bytes> taken = next;
            next = null;
            return taken;
        }
    }
}
