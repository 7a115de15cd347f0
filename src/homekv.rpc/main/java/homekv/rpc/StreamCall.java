package homekv.rpc;

import com.google.protobuf.MessageLite;
import homekv.storage.Bytes;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MvccStore;
import homekv.storage.Result;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.locks.LockSupport;

/**
 * A call of a method with any number of responses, which are sent no faster than the client takes them: while one of
 * them has not left yet, the call's thread sleeps, and what it has sent is charged.
 *
 * <p>The client's end, {@link #end} and room for the next response wake the thread at once.
 */
/*
 * The transport says that it is ready when fewer bytes than a threshold wait to be written to the socket. With a threshold
 * of one byte that means: none. So "ready" is when the charge of what was sent can be given back, to the last byte, and a
 * call whose client does not read holds one response at the most.
 */
final class StreamCall<ResponseT extends MessageLite> extends RequestCall<ResponseT> {
    /** Does the work of a method, on the call's own thread. */
    interface Method<ResponseT extends MessageLite> {
        /** Reads the request, gives it back, and answers it through {@code call}. */
        void answer(InputStream body, StreamCall<ResponseT> call)
                throws IOException, RefusedException, InterruptedException;
    }

    private final Limits limits;
    private final Method<ResponseT> method;

    /** What the call ends with although it has more to say, or null. */
    private volatile Status ending;

    // The call's own thread alone uses these.
    private InFlightBytes.Call inFlight;
    private long unsentBytes;
    private long heldBytes;

    StreamCall(ServerCall<InputStream, ResponseT> call, Metadata headers, MvccStore store, Method<ResponseT> method) {
        super(call, headers, store);
        this.limits = store.limits();
        this.method = method;
        call.setOnReadyThreshold(1);
    }

    @Override
    boolean isBrief(InputStream body, InFlightBytes.Call charge) {
        return false;
    }

    @Override
    Bytes soleKey() {
        return null;
    }

    // ---- Any thread ----

    @Override
    public void onReady() {
        LockSupport.unpark(thread());
    }

    @Override
    public void onCancel() {
        super.onCancel();
        end(Statuses.cancelled());
    }

    /** Ends the call, if its thread has been started, as soon as that can. */
    void end(Status status) {
        ending = status;
        Thread own = thread();
        if (own != null) {
            own.interrupt();
        }
    }

    // ---- On the call's own thread ----

    @Override
    void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException {
        inFlight = charge;
        try {
            method.answer(request, this);
        } catch (InterruptedException e) {
            requireGoing();
            throw new AssertionError("nobody else interrupts a call", e);
        } finally {
            Thread.interrupted(); // What is left to do is not held up by it.
        }
    }

    /** The request has been read, and no more than {@code keptBytes} of it are kept for as long as the call goes on. */
    void requestRead(long keptBytes) throws RefusedException {
        releaseRequest();
        inFlight.releaseAll();
        charge(keptBytes);
    }

    /** Waits until the client has room for a response. */
    void awaitReady() {
        while (!isReady()) {
            requireGoing();
            LockSupport.park(this);
        }
        requireGoing();
        inFlight.releaseStream(unsentBytes);
        unsentBytes = 0;
    }

    /** Ends the work of a call that nobody wants any more. */
    void requireGoing() {
        if (ending != null) {
            throw ending.asRuntimeException();
        }
    }

    /** Sends a response, after {@link #awaitReady}. */
    void sendCharged(ResponseT response) throws RefusedException {
        int bytes = response.getSerializedSize();
        charge(bytes);
        unsentBytes += bytes;
        send(response);
    }

    private void charge(long bytes) throws RefusedException {
        if (!inFlight.chargeStream(bytes)) {
            throw new RefusedException(new Result.Refused(Limit.IN_FLIGHT_BYTES, bytes, limits.inFlightBytes()));
        }
    }

    /**
     * Charges what the call keeps beside the response under way, instead of what it has kept before; false if there is no
     * room for that.
     */
    boolean hold(long bytes) {
        inFlight.releaseStream(heldBytes);
        heldBytes = inFlight.chargeStream(bytes) ? bytes : 0;
        return heldBytes == bytes;
    }
}
