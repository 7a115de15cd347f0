package homekv.rpc;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageLite;
import com.google.protobuf.UnsafeByteOperations;
import homekv.rpc.proto.BackupResponse;
import homekv.rpc.proto.DiffResponse;
import homekv.rpc.proto.HistoryResponse;
import homekv.rpc.proto.ScanResponse;
import homekv.rpc.proto.WatchResponse;
import homekv.storage.Bytes;
import homekv.storage.Difference;
import homekv.storage.Entry;
import homekv.storage.Event;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MvccStore;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.RevisionOutOfRangeException;
import homekv.storage.Snapshot;
import homekv.storage.SnapshotExpiredException;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Watch;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.ToLongFunction;

/**
 * The methods of HomeKvService that answer with a stream of responses. Each reads on as the client takes what was sent,
 * and keeps no more than one response.
 */
final class StreamedReads {
    /** A response is sent when it is as large as this, or would be larger with another element in it. */
    static final int PART_BYTES = 64 << 10;

    /** After so many keys a count looks whether somebody still wants it. */
    private static final int KEYS_BEFORE_LOOKING_UP = 4_096;

    private final MvccStore store;
    private final Limits limits;

    /** Watches go on for ever, so that somebody has to end them. */
    private final Set<StreamCall<WatchResponse>> watches = ConcurrentHashMap.newKeySet();

    /** What watches end with from now on, or null as long as they are welcome. */
    private volatile Status ending;

    StreamedReads(MvccStore store) {
        this.store = store;
        this.limits = store.limits();
    }

    /** Ends every watch, also those that have yet to come. Any thread. */
    void endWatches(Status status) {
        ending = status;
        watches.forEach(watch -> watch.end(status));
    }

    // ---- Parts ----

    /** How elements become a response. */
    private interface Part<T, ResponseT extends MessageLite> {
        /** The response with these elements, which others follow or do not. */
        ResponseT of(List<T> elements, boolean more);
    }

    /** Sends up to {@code limit} elements in responses of 64 KiB or one element; at least one response. */
    private static <T, ResponseT extends MessageLite> void send(
            Iterator<T> elements,
            long limit,
            ToLongFunction<T> bytesOf,
            Part<T, ResponseT> part,
            StreamCall<ResponseT> call)
            throws RefusedException {
        long left = limit;
        T next = elements.hasNext() ? elements.next() : null;
        do {
            call.awaitReady();
            List<T> fitting = new ArrayList<>();
            long bytes = 0;
            while (next != null && left > 0 && (fitting.isEmpty() || bytes + bytesOf.applyAsLong(next) <= PART_BYTES)) {
                fitting.add(next);
                bytes += bytesOf.applyAsLong(next);
                left--;
                next = elements.hasNext() ? elements.next() : null;
            }
            call.sendCharged(part.of(fitting, next != null));
        } while (next != null && left > 0);
    }

    // ---- Snapshots ----

    private Snapshot open(OptionalLong revision) throws RefusedException {
        try {
            return revision.isPresent() ? store.snapshot(revision.getAsLong()) : store.snapshot();
        } catch (IllegalStateException e) {
            throw tooManyOpen(Limit.OPEN_SNAPSHOTS, e);
        }
    }

    private static long bytesOf(Range range) {
        return range.from().length() + (range.to() == null ? 0L : range.to().length());
    }

    private RefusedException tooManyOpen(Limit limit, IllegalStateException cause) {
        long allowed = limits.get(limit);
        return new RefusedException(new Result.Refused(limit, allowed + 1, allowed), cause);
    }

    private RefusedException expired(long revision, SnapshotExpiredException cause) {
        return new RefusedException(
                new Result.OutOfRange(revision, store.counters().compactRevision(), store.revision()), cause);
    }

    void scan(InputStream body, StreamCall<ScanResponse> call) throws IOException, RefusedException {
        RequestDecoder.Scan request = new RequestDecoder(body, limits).scan();
        call.requestRead(bytesOf(request.range()));
        Range range = request.range();
        OptionalLong revision = request.revision();
        if (request.pageToken() != null) {
            PageToken token = PageToken.of(request.pageToken());
            if (token.store() != store.id()) {
                throw new OtherStoreException(store.counters().compactRevision(), store.revision());
            }
            requireSameScan(request, token);
            range = token.rest(range);
            revision = OptionalLong.of(token.revision());
        }
        try (Snapshot snapshot = open(revision)) {
            try {
                scan(snapshot, range, request, call);
            } catch (SnapshotExpiredException e) {
                throw expired(snapshot.revision(), e);
            }
        }
    }

    private void scan(Snapshot snapshot, Range range, RequestDecoder.Scan request, StreamCall<ScanResponse> call)
            throws RefusedException {
        if (request.countOnly()) {
            long keys = 0;
            for (Iterator<Entry> entries = snapshot.scan(range, false); entries.hasNext(); entries.next()) {
                if (++keys % KEYS_BEFORE_LOOKING_UP == 0) {
                    call.requireGoing();
                    Thread.yield(); // Nothing else interrupts it for the sake of others.
                }
            }
            ScanResponse count = ScanResponse.newBuilder()
                    .setRevision(snapshot.revision())
                    .setCount(keys)
                    .build();
            call.awaitReady();
            call.sendCharged(count);
            return;
        }
        send(
                snapshot.scan(range, request.descending()),
                request.limit() == 0 ? Long.MAX_VALUE : request.limit(),
                entry -> ServerMessages.entryBytes(entry, request.keysOnly()),
                (entries, more) -> scanned(entries, more, snapshot.revision(), request),
                call);
    }

    private ScanResponse scanned(List<Entry> entries, boolean more, long revision, RequestDecoder.Scan request) {
        ScanResponse.Builder response = ScanResponse.newBuilder().setRevision(revision);
        entries.forEach(entry -> response.addEntries(ServerMessages.entry(entry, request.keysOnly())));
        if (more) {
            Bytes lastKey = entries.get(entries.size() - 1).key();
            response.setPageToken(new PageToken(request.descending(), store.id(), revision, lastKey).bytes());
        }
        return response.build();
    }

    private static void requireSameScan(RequestDecoder.Scan request, PageToken token) throws IOException {
        String wrong = null;
        if (request.countOnly()) {
            wrong = "of a scan for entries, and this one only counts";
        } else if (request.descending() != token.descending()) {
            wrong = "of a scan in the other direction";
        } else if (request.revision().isPresent() && request.revision().getAsLong() != token.revision()) {
            wrong = "of a scan of revision " + token.revision();
        } else if (!request.range().contains(token.lastKey())) {
            wrong = "of a scan of another range";
        }
        if (wrong != null) {
            throw new InvalidProtocolBufferException("page_token is " + wrong);
        }
    }

    void diff(InputStream body, StreamCall<DiffResponse> call) throws IOException, RefusedException {
        RequestDecoder.Diff request = new RequestDecoder(body, limits).diff();
        call.requestRead(bytesOf(request.range()));
        try (Snapshot earlier = open(OptionalLong.of(request.fromRevision()));
                Snapshot later = open(request.toRevision())) {
            try {
                send(
                        later.differences(earlier, request.range()),
                        Long.MAX_VALUE,
                        ServerMessages::differenceBytes,
                        (differences, more) -> different(differences, later.revision()),
                        call);
            } catch (SnapshotExpiredException e) {
                throw expired(request.fromRevision(), e);
            }
        }
    }

    private static DiffResponse different(List<Difference> differences, long toRevision) {
        DiffResponse.Builder response = DiffResponse.newBuilder().setToRevision(toRevision);
        differences.forEach(difference -> response.addDifferences(ServerMessages.difference(difference)));
        return response.build();
    }

    // ---- History ----

    void history(InputStream body, StreamCall<HistoryResponse> call) throws IOException, RefusedException {
        RequestDecoder.History request = new RequestDecoder(body, limits).history();
        call.requestRead(request.key().length());
        Events events = new Events(request.key(), request.fromRevision());
        send(events, Long.MAX_VALUE, ServerMessages::eventBytes, (part, more) -> changed(part), call);
    }

    private static HistoryResponse changed(List<Event> events) {
        HistoryResponse.Builder response = HistoryResponse.newBuilder();
        events.forEach(event -> response.addEvents(ServerMessages.event(event)));
        return response.build();
    }

    /** The history of a key up to now, read from the store a few events at a time, so that little is kept of it. */
    private final class Events implements Iterator<Event> {
        /**
         * How many events are read from the key's versions at a time at the most. Each such reading walks through all that
         * are younger; of a key that has more, the rest is read from the store's commits, in one walk.
         */
        private static final int MAX_READ = 4_096;

        private final Bytes key;

        /** The last revision that is read, so that the history of a key that is often written has an end. */
        private long last;

        /** All events up to here have been read. */
        private long seen;

        private boolean more;
        private Iterator<Event> read;

        Events(Bytes key, OptionalLong from) {
            this.key = key;
            while (read == null) {
                seen = from.orElseGet(() -> store.counters().compactRevision());
                last = store.revision();
                try {
                    List<Event> events = store.history(key, seen, MAX_READ);
                    more = events.size() == MAX_READ;
                    take(events);
                } catch (RevisionOutOfRangeException e) {
                    if (from.isPresent()) {
                        throw e;
                    }
                    // The first revision that can be read has become another one.
                }
            }
        }

        @Override
        public boolean hasNext() {
            while (!read.hasNext() && seen < last) {
                if (more) {
                    takeFromCommits();
                } else {
                    List<Event> events = store.history(key, seen, MAX_READ);
                    // It begins with what the key was at `seen`, which has been read.
                    boolean again = !events.isEmpty() && events.get(0).revision() <= seen;
                    take(again ? events.subList(1, events.size()) : events);
                }
            }
            return read.hasNext();
        }

        private void takeFromCommits() {
            try (Watch commits = store.watch(Range.key(key), seen + 1, true, true, false)) {
                List<Event> events = commits.next(PART_BYTES, 0);
                read = events.stream().filter(event -> event.revision() <= last).iterator();
                seen = commits.revision();
            } catch (InterruptedException e) {
                throw new AssertionError("a read that does not wait is not interrupted", e);
            }
        }

        /** Keeps as many of the events as fit a response, or one. */
        private void take(List<Event> events) {
            List<Event> kept = new ArrayList<>();
            long bytes = 0;
            for (Event event : events) {
                bytes += ServerMessages.eventBytes(event);
                if (event.revision() > last || bytes > PART_BYTES && !kept.isEmpty()) {
                    break;
                }
                kept.add(event);
            }
            seen = kept.isEmpty()
                    ? last
                    : Math.max(seen, kept.get(kept.size() - 1).revision());
            read = kept.iterator();
        }

        @Override
        public Event next() {
            return read.next();
        }
    }

    // ---- Backup ----

    void backup(InputStream body, StreamCall<BackupResponse> call) throws IOException, RefusedException {
        call.requestRead(Pieces.PIECE_BYTES);
        Pieces pieces = new Pieces(call);
        SnapshotFileInfo whole;
        try {
            whole = store.backup(pieces);
        } catch (SnapshotExpiredException e) {
            throw Statuses.backupExpired().asRuntimeException();
        } catch (IllegalStateException e) {
            throw tooManyOpen(Limit.OPEN_SNAPSHOTS, e);
        }
        pieces.send();
        call.awaitReady();
        call.sendCharged(BackupResponse.newBuilder()
                .setRevision(whole.revision())
                .setKeys(whole.keys())
                .setBytes(whole.bytes())
                .build());
    }

    /**
     * Sends what is written to it, in pieces, and has the writer wait while the client has not taken the one before. On the
     * call's own thread.
     */
    private final class Pieces extends OutputStream {
        static final int PIECE_BYTES = 256 << 10;

        private final StreamCall<BackupResponse> call;

        /** What has not been sent yet; null before the client has room for it. */
        private byte[] piece;

        private int length;

        Pieces(StreamCall<BackupResponse> call) {
            this.call = call;
        }

        @Override
        public void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int offset, int count) {
            if (!call.hold(count)) { // The writer keeps it until the client has taken it.
                throw Statuses.refused(new Result.Refused(Limit.IN_FLIGHT_BYTES, count, limits.inFlightBytes()))
                        .asRuntimeException();
            }
            for (int written = 0; written < count; ) {
                if (piece == null) {
                    call.awaitReady();
                    piece = new byte[PIECE_BYTES];
                }
                int fitting = Math.min(count - written, PIECE_BYTES - length);
                System.arraycopy(bytes, offset + written, piece, length, fitting);
                length += fitting;
                written += fitting;
                if (length == PIECE_BYTES) {
                    send();
                }
            }
        }

        /** Sends what is there, which need not be much: a flush sends nothing. */
        void send() {
            if (piece == null) {
                return;
            }
            BackupResponse response = BackupResponse.newBuilder()
                    .setData(UnsafeByteOperations.unsafeWrap(piece, 0, length))
                    .build();
            piece = null;
            length = 0;
            try {
                call.sendCharged(response);
            } catch (RefusedException e) {
                throw Statuses.refused(e).asRuntimeException();
            }
        }
    }

    // ---- Watches ----

    void watch(InputStream body, StreamCall<WatchResponse> call)
            throws IOException, RefusedException, InterruptedException {
        RequestDecoder.Watch request = new RequestDecoder(body, limits).watch();
        call.requestRead(bytesOf(request.range()));
        watches.add(call);
        try (Watch watch = open(request, request.fromRevision().orElse(0))) {
            if (ending != null) {
                throw ending.asRuntimeException();
            }
            call.awaitReady();
            call.sendCharged(progress(watch.revision()));
            while (true) {
                call.awaitReady();
                report(watch, request, call);
            }
        } finally {
            watches.remove(call);
        }
    }

    /** A method of its own, so that nothing of what was found is kept on the stack while the next change is awaited. */
    private void report(Watch watch, RequestDecoder.Watch request, StreamCall<WatchResponse> call)
            throws RefusedException, InterruptedException {
        Changes changes = new Changes(request, watch.next(PART_BYTES, request.progressNanos()));
        if (changes.until == 0) {
            call.sendCharged(progress(watch.revision()));
        } else {
            send(changes, watch.revision(), call);
        }
    }

    private Watch open(RequestDecoder.Watch request, long from) throws RefusedException {
        try {
            return store.watch(request.range(), from, request.puts(), request.deletes(), request.previous());
        } catch (IllegalStateException e) {
            throw tooManyOpen(Limit.OPEN_WATCHES, e);
        }
    }

    private static WatchResponse progress(long revision) {
        return WatchResponse.newBuilder().setRevision(revision).build();
    }

    /** Sends commits, many of them together if they are small, and one of more than 64 KiB in parts. */
    private static void send(Changes changes, long revision, StreamCall<WatchResponse> call)
            throws RefusedException, InterruptedException {
        boolean kept = changes.bytes <= PART_BYTES || call.hold(changes.bytes);
        Event next = changes.next();
        while (next != null) {
            call.awaitReady();
            WatchResponse.Builder response = WatchResponse.newBuilder();
            long bytes = 0;
            boolean partial = false;
            // A commit is not cut where it would fit a response of its own.
            while (next != null && bytes < (partial ? 2 * PART_BYTES : PART_BYTES)) {
                response.addEvents(ServerMessages.event(next)).setRevision(next.revision());
                bytes += ServerMessages.eventBytes(next);
                next = changes.next();
                partial = next != null && next.revision() == response.getRevision();
            }
            if (partial) {
                response.setPartial(true).setRevision(response.getRevision() - 1);
            } else if (next == null) {
                response.setRevision(revision);
            }
            if (!kept) {
                changes.forget();
            }
            call.sendCharged(response.build());
        }
        call.hold(0);
    }

    /**
     * What a watch has found. While the client does not take it, it can be forgotten, and is then read again from the
     * store's history, of which it is a part.
     */
    private final class Changes {
        private final RequestDecoder.Watch request;
        private final long bytes;

        /** The revision of the last change; 0 if there is none. */
        private final long until;

        private List<Event> events;
        private int index;

        /** The commit of the change that was returned last, and how many of its changes have been. */
        private long revision;

        private int returned;

        Changes(RequestDecoder.Watch request, List<Event> events) {
            this.request = request;
            this.bytes = events.stream().mapToLong(ServerMessages::eventBytes).sum();
            this.until = events.isEmpty() ? 0 : events.get(events.size() - 1).revision();
            this.events = events;
        }

        /** The next change, or null if there is none. */
        Event next() throws RefusedException, InterruptedException {
            if (events == null) {
                read(revision);
                index = returned;
            }
            if (index == events.size() && revision < until) {
                read(revision + 1); // What was read again went no further.
                index = 0;
            }
            if (index == events.size() || events.get(index).revision() > until) {
                return null;
            }
            Event event = events.get(index++);
            returned = event.revision() == revision ? returned + 1 : 1;
            revision = event.revision();
            return event;
        }

        private void read(long from) throws RefusedException, InterruptedException {
            try (Watch again = open(request, from)) {
                events = again.next(PART_BYTES, 0);
            }
        }

        void forget() {
            events = null;
        }
    }
}
