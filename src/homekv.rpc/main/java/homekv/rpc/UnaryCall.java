package homekv.rpc;

import homekv.storage.Limit;
import homekv.storage.Limits;
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
 * One call of a method with one request and one response, from its first byte to its end.
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
final class UnaryCall<ResponseT> extends ServerCall.Listener<InputStream> implements Runnable {
    private static final System.Logger LOGGER = System.getLogger(UnaryCall.class.getName());

    /** Does the work of a method, on the call's own thread. */
    interface Method<ResponseT> {
        /** Reads the request and answers it, having charged a response of any size to {@code inFlight}. */
        ResponseT answer(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

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
    private final Limits limits;
    private final Method<ResponseT> method;
    private final InFlightBytes.Call inFlight = InFlightBytes.Call.current();
    private final Context context = Context.current();

    private InputStream body;
    private boolean started;
    private boolean ended;

    UnaryCall(ServerCall<InputStream, ResponseT> call, Limits limits, Method<ResponseT> method) {
        this.call = call;
        this.limits = limits;
        this.method = method;
        inFlight.onRefusal(this::refuse);
        call.request(2); // One more than there may be, so that a second one is noticed, and refused by inFlight.
    }

    // ---- On the transport's thread ----

    @Override
    public void onMessage(InputStream message) {
        if (ended) {
            close(message);
        } else {
            body = message;
        }
    }

    @Override
    public void onHalfClose() {
        if (body == null) {
            refuse(Statuses.wrongMessageCount());
        }
        if (!ended) {
            started = true;
            inFlight.join();
            Thread.startVirtualThread(this);
        }
    }

    @Override
    public void onCancel() {
        ended = true;
        if (!started) {
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

    @Override
    public void run() {
        Status status = Status.OK;
        ResponseT response = null;
        try {
            response = answer();
        } catch (RefusedException e) {
            status = Statuses.refused(e.refused);
        } catch (IOException e) {
            status = Statuses.malformed(call.getMethodDescriptor().getBareMethodName() + "Request", e);
        } catch (RuntimeException | Error e) {
            status = Statuses.failed(e);
        } finally {
            close(body);
        }
        try {
            if (response != null) {
                call.sendHeaders(new Metadata());
                call.sendMessage(response);
            }
            call.close(status, new Metadata());
        } catch (OutOfMemoryError e) {
            LOGGER.log(System.Logger.Level.WARNING, "no memory to send a response: {0}", e.getMessage());
        } finally {
            inFlight.done();
        }
    }

    private ResponseT answer() throws IOException, RefusedException {
        if (context.isCancelled()) {
            throw Status.CANCELLED
                    .withDescription("the call has ended before it was carried out")
                    .asRuntimeException();
        }
        int requestBytes = body.available();
        if (requestBytes > limits.requestBytes()) {
            throw new RefusedException(new Result.Refused(Limit.REQUEST_BYTES, requestBytes, limits.requestBytes()));
        }
        return method.answer(body, inFlight);
    }
}
