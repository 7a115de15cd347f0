package homekv.rpc;

import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import io.grpc.Context;
import io.grpc.Detachable;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.ServerCall;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;

/**
 * One call of a method that takes one request, from its first byte to its end.
 *
 * <p>The transport's thread only signals: it hands over the body of the request, unread, and starts the virtual thread
 * of this call once the request is complete. Reading, the work itself and the response all happen there, so that
 * nothing that one call does holds up another one on the same connection.
 */
/*
 * gRPC's ServerCall is not thread-safe. Up to onHalfClose only the transport's thread touches it and the fields here,
 * afterwards only the virtual thread. The exception is a cancellation, which can come at any time: it touches nothing
 * but the body of a call whose thread has not been started.
 */
abstract sealed class RequestCall<ResponseT> extends ServerCall.Listener<InputStream> implements Runnable
        permits UnaryCall, StreamCall {
    private static final System.Logger LOGGER = System.getLogger(RequestCall.class.getName());

    /** Leaves the body of a request where the transport has put it, to be read and closed by the call's own thread. */
    static final MethodDescriptor.Marshaller<InputStream> UNREAD = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream parse(InputStream stream) {
            // What the transport has received is taken from it; a response on its way out has nothing to be taken from.
            return stream instanceof Detachable received ? received.detach() : stream;
        }

        @Override
        public InputStream stream(InputStream value) {
            return value;
        }
    };

    private final ServerCall<InputStream, ResponseT> call;
    private final MvccStore store;
    private final Limits limits;

    /** Which store the client means, or null if it does not say. */
    private final String wantedStore;

    private final InFlightBytes.Call inFlight = InFlightBytes.Call.current();
    private final Context context = Context.current();

    /** Of the call, once it has been started. */
    private volatile Thread thread;

    private InputStream body;
    private boolean ended;
    private boolean headersSent;
    private boolean closed;

    RequestCall(ServerCall<InputStream, ResponseT> call, Metadata headers, MvccStore store) {
        this.call = call;
        this.store = store;
        this.limits = store.limits();
        this.wantedStore = headers.get(StoreHeader.KEY);
        inFlight.onRefusal(this::refuse);
        call.request(2); // One more than there may be, so that a second one is noticed, and refused by inFlight.
    }

    // ---- On the transport's thread ----

    @Override
    public final void onMessage(InputStream message) {
        if (ended) {
            close(message);
        } else {
            body = message;
        }
    }

    @Override
    public final void onHalfClose() {
        if (body == null) {
            refuse(Statuses.wrongMessageCount());
        }
        if (!ended) {
            Thread own = Thread.ofVirtual().unstarted(this);
            inFlight.join();
            thread = own;
            try {
                own.start();
            } catch (Throwable e) {
                thread = null; // So that the end of the call, which follows, closes the body.
                inFlight.done();
                throw e;
            }
        }
    }

    @Override
    public void onCancel() {
        ended = true;
        if (thread == null) {
            close(body);
        }
    }

    /** Ends the call before its thread has been started. */
    private void refuse(Status status) {
        if (!ended) {
            ended = true;
            close(body);
            call.close(status, new Metadata());
        }
    }

    private static void close(InputStream body) {
        try {
            if (body != null) {
                body.close();
            }
        } catch (IOException e) {
            throw new UncheckedIOException("a buffer in memory cannot be closed", e);
        }
    }

    // ---- On the call's own thread ----

    /** Reads the request and answers it, with any number of {@link #send}. */
    abstract void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException;

    @Override
    public final void run() {
        try {
            Statuses.Ending ending = answer();
            if (!closed) {
                call.close(ending.status(), ending.trailers());
            }
        } catch (OutOfMemoryError e) {
            LOGGER.log(System.Logger.Level.WARNING, "no memory to end a call: {0}", e.getMessage());
        } finally {
            inFlight.done();
        }
    }

    private Statuses.Ending answer() {
        try {
            requireWanted();
            serve(body, inFlight);
            return new Statuses.Ending(Status.OK);
        } catch (IOException | RefusedException | RuntimeException | Error e) {
            return Statuses.ending(e, call.getMethodDescriptor().getBareMethodName() + "Request");
        } finally {
            releaseRequest();
        }
    }

    private void requireWanted() throws RefusedException, IOException {
        if (context.isCancelled()) {
            throw Statuses.cancelled().asRuntimeException();
        }
        if (wantedStore != null
                && !wantedStore.equals(StoreHeader.ANY)
                && !wantedStore.equals(StoreHeader.of(store.id()))) {
            throw new OtherStoreException(store.counters().compactRevision(), store.revision());
        }
        int requestBytes = body.available();
        if (requestBytes > limits.requestBytes()) {
            throw new RefusedException(new Result.Refused(Limit.REQUEST_BYTES, requestBytes, limits.requestBytes()));
        }
    }

    /** The request has been read, and its memory is given back to the transport. */
    final void releaseRequest() {
        close(body);
        body = null;
    }

    /** Hands a response to the transport. */
    final void send(ResponseT response) {
        if (!headersSent) {
            headersSent = true;
            Metadata headers = new Metadata();
            if (wantedStore != null) {
                headers.put(StoreHeader.KEY, StoreHeader.of(store.id()));
            }
            call.sendHeaders(headers);
        }
        try {
            call.sendMessage(response);
        } catch (Error e) {
            closed = true; // gRPC has ended the call.
            LOGGER.log(System.Logger.Level.WARNING, "a response could not be sent: {0}", e.toString());
            throw e;
        }
    }

    // ---- Any thread ----

    /** Whether all that was sent has left this process, as far as the transport knows. */
    final boolean isReady() {
        return call.isReady();
    }

    /** The call's own thread, or null before it has been started. */
    final Thread thread() {
        return thread;
    }
}
