package homekv.rpc;

import homekv.storage.Bytes;
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
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;

/**
 * One call of a method that takes one request, from its first byte to its end.
 *
 * <p>The transport's thread only signals: it hands over the body of the request, hardly looked at unless the call is brief,
 * and starts the virtual thread of this call once the request is complete. Decoding and the work itself happen there, so
 * that no call that takes its time holds up another one on the same connection; a short response is sent by the
 * transport's thread, together with others, a long one is not.
 *
 * <p>A brief call's thread is carried by the transport's ({@link CallLoop}), and so takes no lock that this one takes (C1). It
 * hands nothing to the transport, which allocates under locks, writes nothing to a log, and starts no thread, which would
 * be carried by the same loop. A long response has a thread of its own.
 */
/*
 * gRPC's ServerCall is not thread-safe. Up to onHalfClose only the transport's thread touches it and the fields here,
 * afterwards only the virtual thread, until that hands over to the transport's for the end of the call (see finish), which
 * may have one more thread send a long response and then comes back to it. The
 * exception is a cancellation, which can come at any time: it touches nothing but the body of a call that has no thread.
 */
abstract sealed class RequestCall<ResponseT> extends ServerCall.Listener<InputStream> implements Runnable
        permits UnaryCall, StreamCall {
    private static final System.Logger LOGGER = System.getLogger(RequestCall.class.getName());

    /**
     * The longest body that is copied out of the transport's buffer as it arrives, which costs less than to hand a buffer to
     * another thread and back; and the longest response that the transport's thread sends.
     */
    private static final int SHORT_BYTES = 16 << 10;

    /** The body of a request in an array of its own, which need not be closed. */
    static final class ShortBody extends ByteArrayInputStream {
        private ShortBody(byte[] array) {
            super(array);
        }

        byte[] array() {
            return buf;
        }
    }

    /**
     * Leaves a long body where the transport has put it, to be read and closed by the call's own thread. A short one is a
     * {@link ShortBody}.
     */
    static final MethodDescriptor.Marshaller<InputStream> UNREAD = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream parse(InputStream stream) {
            if (!(stream instanceof Detachable received)) {
                return stream; // A response on its way out.
            }
            try {
                int bytes = stream.available();
                return bytes > SHORT_BYTES ? received.detach() : new ShortBody(stream.readNBytes(bytes));
            } catch (IOException e) {
                throw new UncheckedIOException("a buffer in memory cannot be read", e);
            }
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

    private final CallLoop loop = CallLoop.current();
    private final InFlightBytes.Call inFlight = InFlightBytes.Call.current();
    private final Context context = Context.current();

    /** Of the call, once its request is complete. */
    private volatile Thread thread;

    /** The loop's: the call that was answered before this one. */
    RequestCall<?> answeredBefore;

    private InputStream body;
    private boolean ended;
    private boolean headersSent;
    private boolean closed;

    /** Whether the call's own thread is carried by the loop. */
    private boolean brief;

    /** What is left to be sent when the call's own thread is through, or null. */
    private ResponseT response;

    /** Whether that response is too long for the transport's thread. */
    private boolean responseIsLong;

    /** What the call ends with instead of an answer, where it was refused or failed, or had no thread; or null. */
    private Throwable failure;

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
            // Where there is no memory for that, the call has no thread, and gRPC ends it.
            brief = isBrief(body, inFlight);
            Thread own = loop.thread(this, brief);
            if (brief) {
                loop.expect(soleKey());
            }
            inFlight.join();
            thread = own;
            start();
        }
    }

    /**
     * Whether this call, with the request {@code body}, takes so little time that a loop can do with it. May read the request
     * for that, and then has charged what it takes.
     */
    abstract boolean isBrief(InputStream body, InFlightBytes.Call charge);

    /** The key that a brief call is about, or null if that is none or several. */
    abstract Bytes soleKey();

    @Override
    public void onCancel() {
        ended = true;
        if (thread == null) {
            close(body);
        }
    }

    /** Ends the call before it has a thread. */
    private void refuse(Status status) {
        if (!ended) {
            ended = true;
            close(body);
            call.close(status, new Metadata());
        }
    }

    /** Starts the call's own thread, which ends the call; or ends it, where there is no memory for a thread. */
    private void start() {
        try {
            thread.start();
        } catch (Throwable e) {
            failure = e;
            loop.answer(this);
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

    /** Reads the request and answers it, with any number of {@link #send} or one {@link #sendLast}. */
    abstract void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException;

    @Override
    public final void run() {
        try {
            requireWanted();
            serve(body, inFlight);
            releaseRequest();
        } catch (Throwable e) { // finish() tells the client, and the log if it is not the client's fault.
            failure = e;
        }
        loop.answer(this);
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
        assert !brief || Thread.currentThread() != thread
                : "C1: the transport's locks, on a thread that its own carries";
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

    /** Hands the only response to the transport: a long one now, unless the call is brief, a short one with its end. */
    final void sendLast(ResponseT response, int bytes) {
        boolean isLong = bytes > SHORT_BYTES;
        if (isLong && !brief) {
            send(response);
        } else {
            this.response = response;
            responseIsLong = isLong;
        }
    }

    // ---- On the transport's thread, when the call's own is through ----

    /** Sends what is left to be sent, and ends the call. */
    final void finish() {
        if (responseIsLong && failure == null) {
            responseIsLong = false;
            if (startSending()) {
                return; // It comes back here.
            }
        }
        try {
            sendLeft();
            if (failure != null) {
                releaseRequest();
            }
            if (!closed) {
                Statuses.Ending end = ending();
                call.close(end.status(), end.trailers());
            }
        } finally {
            inFlight.done();
        }
    }

    private Statuses.Ending ending() {
        try {
            return failure == null
                    ? new Statuses.Ending(Status.OK)
                    : Statuses.ending(failure, call.getMethodDescriptor().getBareMethodName() + "Request");
        } catch (Throwable e) { // No memory for saying how it ends.
            return new Statuses.Ending(Statuses.failed(e));
        }
    }

    /** Has a thread that no loop carries send the long response of a brief call; false if there is no memory for one. */
    private boolean startSending() {
        try {
            loop.thread(this::sendLong, false).start();
            return true;
        } catch (Throwable e) {
            failure = e;
            return false;
        }
    }

    private void sendLong() {
        sendLeft();
        loop.answer(this);
    }

    private void sendLeft() {
        try {
            if (response != null && failure == null) {
                send(response);
            }
        } catch (Throwable e) {
            failure = e;
        }
        response = null;
    }

    // ---- Any thread ----

    /** Whether all that was sent has left this process, as far as the transport knows. */
    final boolean isReady() {
        return call.isReady();
    }

    /** The call's own thread, or null as long as the request is not complete. */
    final Thread thread() {
        return thread;
    }
}
