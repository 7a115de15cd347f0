package homekv.rpc;

import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;

/**
 * What a client reads bit by bit: a scan, a key's history, the differences of two revisions.
 *
 * <p>Pulled: a few of the server's responses of 64 KiB are here at a time, and the server sends the next when those have
 * been taken. {@link #hasNext} blocks until there is one, for the client's timeout at the most. Where the connection
 * breaks, it is made again and the read goes on behind what has been returned, in the same revision: nothing is missed or
 * repeated. Each method may throw {@link HomeKvException}; OUT_OF_RANGE if the history window has left the revision behind,
 * or the server has been started anew and has another history.
 *
 * <p>For one thread at a time. Closing it lets the server let go; one that was read to its end need not be closed.
 */
public final class ReadStream<T> implements Iterator<T>, AutoCloseable {
    /** One of the three, read so far, and able to go on from there. */
    abstract static class Source<R, T> {
        /** Whether an answer has named the revision that is read. */
        boolean begun;

        long revision;

        /** Calls the server anew, for what lies behind what has been taken; null if that is nothing. */
        abstract ResponseStream<R> open(Connection connection);

        /** The elements of a response, checked. */
        abstract List<T> take(R response);
    }

    /** A source and its call under way: they share the type of the response. */
    private static final class Pull<R, T> {
        private final Connection connection;
        private final Source<R, T> source;
        private ResponseStream<R> call;

        Pull(Connection connection, Source<R, T> source) {
            this.connection = connection.withOneStore();
            this.source = source;
            this.call = source.open(this.connection);
        }

        /** The elements of the next response, which may be none; null at the end. */
        List<T> next() {
            for (int attempt = 1; call != null; attempt++) {
                try {
                    R response = call.next(connection.timeoutNanos());
                    return response == null ? null : source.take(response);
                } catch (StatusRuntimeException e) {
                    call.close();
                    if (attempt == Connection.MAX_READ_ATTEMPTS || !connection.pausedToRetry(e, attempt)) {
                        throw connection.failure(e, false);
                    }
                    call = source.open(connection);
                }
            }
            return null;
        }

        void close() {
            if (call != null) {
                call.close();
            }
        }
    }

    private final Pull<?, T> pull;
    private Iterator<T> here = List.<T>of().iterator();
    private boolean begun;
    private boolean ended;

    /** Calls the server; does not wait for it. */
    <R> ReadStream(Connection connection, Source<R, T> source) {
        this.pull = new Pull<>(connection, source);
    }

    @Override
    public boolean hasNext() {
        while (!here.hasNext() && !ended) {
            pull();
        }
        return here.hasNext();
    }

    @Override
    public T next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        return here.next();
    }

    /**
     * The revision that a scan reads, or the later one of two that are compared; waits for the first response. A history
     * has none, 0.
     */
    public long revision() {
        while (!begun && !ended) {
            pull();
        }
        return pull.source.revision;
    }

    private void pull() {
        List<T> elements;
        try {
            elements = pull.next();
        } catch (HomeKvException e) {
            close();
            throw e;
        }
        begun = true;
        if (elements == null) {
            ended = true;
        } else {
            here = elements.iterator();
        }
    }

    /** Ends the read; there is no next element then. Closing again does nothing. */
    @Override
    public void close() {
        ended = true;
        here = List.<T>of().iterator();
        pull.close();
    }
}
