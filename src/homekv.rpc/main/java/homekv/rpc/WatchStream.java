package homekv.rpc;

import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.WatchRequest;
import homekv.rpc.proto.WatchResponse;
import homekv.storage.Event;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * The changes of a range of keys as a server reports them: commit by commit, each change exactly once.
 *
 * <p>Pulled: what nobody takes stays with the server, which holds it as long as its history window does. Where the
 * connection breaks, it is made again and the watch goes on behind what has been returned, for as long as the client's
 * timeout. It goes on with a server that was started anew on the same data and has lost nothing of it; one with another
 * history ends it with OUT_OF_RANGE.
 *
 * <p>One thread at a time calls {@link #next}; any thread may close it, which ends a call that waits.
 */
public final class WatchStream implements AutoCloseable {
    /** So that an idle watch which loses its connection does not begin again where the history window has long left. */
    private static final int PROGRESS_MILLIS = 10_000;

    private final Connection connection;
    private final ClientMessages messages;
    private final WatchOptions options;

    /** Changes of a commit that is not here as a whole yet, and of those before it that came with it. */
    private List<Event> partial = new ArrayList<>();

    /** How often the connection was lost since the server last answered, and when first. */
    private int losses;

    private long firstLossNanos;

    /** Whether {@link #revision} is known. */
    private boolean begun;

    private volatile long revision;
    private volatile ResponseStream<WatchResponse> call;
    private volatile boolean closed;

    /** Returns when the server has begun to watch, so that every change from then on is reported. */
    WatchStream(Connection connection, ClientMessages messages, WatchOptions options) {
        this.connection = connection.withOneStore();
        this.messages = messages;
        this.options = options;
        if (options.fromRevision().isPresent()) {
            revision = options.fromRevision().getAsLong() - 1;
        }
        next(Duration.ZERO, true);
    }

    /** Every change that is watched and has this revision or an earlier one has been returned by {@link #next}. */
    public long revision() {
        return revision;
    }

    /**
     * The next changes: of one commit or of several that follow each other, each commit's together. Waits for one.
     *
     * @throws HomeKvException OUT_OF_RANGE if the history window has left this watch behind: a new one may begin with the
     *     revision that the exception names as the first, and will have missed changes; any other reason if the server
     *     cannot be reached or refuses
     * @throws IllegalStateException if the watch has been closed
     */
    public List<Event> next() {
        while (true) {
            List<Event> events = next(Duration.ofNanos(Long.MAX_VALUE));
            if (!events.isEmpty()) {
                return events;
            }
        }
    }

    /**
     * The next changes as above, or none when the wait is over; {@link #revision} may have moved on all the same. Takes
     * longer where the connection has to be made again.
     */
    public List<Event> next(Duration maxWait) {
        return next(maxWait, false);
    }

    private List<Event> next(Duration maxWait, boolean onlyBegin) {
        long maxWaitNanos = TimeUnit.NANOSECONDS.convert(maxWait);
        long beginNanos = System.nanoTime();
        while (true) {
            requireOpen();
            try {
                if (call == null) {
                    begin();
                }
                while (!onlyBegin && call.arrives(maxWaitNanos - (System.nanoTime() - beginNanos))) {
                    List<Event> events = take(call.next(0));
                    if (!events.isEmpty()) {
                        return events;
                    }
                }
                return List.of();
            } catch (StatusRuntimeException e) {
                requireOpen();
                lost(e);
            } catch (HomeKvException e) {
                close();
                throw e;
            }
        }
    }

    private void begin() {
        WatchRequest.Builder request = WatchRequest.newBuilder()
                .setRange(ClientMessages.range(options.range()))
                .setPrevious(options.previous())
                .setNoPuts(!options.puts())
                .setNoDeletes(!options.deletes())
                .setProgressMillis(PROGRESS_MILLIS);
        if (begun || options.fromRevision().isPresent()) {
            request.setFromRevision(revision + 1);
        }
        ResponseStream<WatchResponse> begins = connection.open(HomeKvServiceGrpc.getWatchMethod(), request.build());
        call = begins;
        if (closed) {
            begins.close();
        }
        WatchResponse first = begins.next(connection.timeoutNanos());
        if (first == null || first.getEventsCount() > 0) {
            throw connection.wrongAnswer("did not say from where on it watches");
        }
        if (request.hasFromRevision() && first.getRevision() != revision) {
            throw connection.wrongAnswer("watches from behind revision " + Long.toUnsignedString(first.getRevision())
                    + " on, not from behind " + revision);
        }
        revision = first.getRevision();
        begun = true;
        losses = 0;
    }

    /** The changes that are here whole with this response, which may be none. */
    private List<Event> take(WatchResponse response) {
        if (response == null) {
            throw connection.wrongAnswer("ended a watch, which only its client does");
        }
        long last = partial.isEmpty() ? revision + 1 : partial.getLast().revision();
        for (homekv.rpc.proto.Event message : response.getEventsList()) {
            Event event = messages.event(message);
            if (event.revision() < last) {
                throw connection.wrongAnswer("reported a change twice, or out of order");
            }
            last = event.revision();
            partial.add(event);
        }
        if (response.getPartial()) {
            return List.of();
        }
        if (response.getRevision() < (partial.isEmpty() ? revision : last)) {
            throw connection.wrongAnswer("went back to revision " + Long.toUnsignedString(response.getRevision()));
        }
        List<Event> whole = partial;
        partial = new ArrayList<>();
        revision = response.getRevision();
        return whole;
    }

    /** Returns when the server may be called again, if it may. */
    private void lost(StatusRuntimeException e) {
        call.close();
        call = null;
        partial.clear(); // The server sends the commit again from its beginning.
        long now = System.nanoTime();
        if (losses++ == 0) {
            firstLossNanos = now;
        }
        boolean patient =
                begun ? now - firstLossNanos < connection.timeoutNanos() : losses < Connection.MAX_READ_ATTEMPTS;
        if (!patient || !connection.pausedToRetry(e, losses)) {
            close();
            throw connection.failure(e, false);
        }
    }

    private void requireOpen() {
        if (closed) {
            throw new IllegalStateException("the watch has been closed");
        }
    }

    /** Ends the watch, and a call of {@link #next} that waits. Closing again does nothing. */
    @Override
    public void close() {
        closed = true;
        ResponseStream<WatchResponse> open = call;
        if (open != null) {
            open.close();
        }
    }
}
