package homekv.rpc;

import homekv.storage.MvccStore;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import java.io.IOException;
import java.io.InputStream;

/** A call of a method with one response, which is a stream that knows its length. */
final class UnaryCall extends RequestCall<InputStream> {
    /** Does the work of a method, on the call's own thread. */
    interface Method<ResponseT> {
        /** Reads the request and answers it, having charged a response of any size to {@code inFlight}. */
        ResponseT answer(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

    /** The longest request of a brief call: some hundred keys, which take less time than a read of that many from a socket. */
    private static final int BRIEF_BYTES = 4 << 10;

    private final Method<? extends InputStream> method;
    private final boolean timeGrowsWithRequest;

    /**
     * @param timeGrowsWithRequest whether {@code method} takes time that is in proportion to the length of the request, and
     *     does not depend on what is in the store
     */
    UnaryCall(
            ServerCall<InputStream, InputStream> call,
            Metadata headers,
            MvccStore store,
            Method<? extends InputStream> method,
            boolean timeGrowsWithRequest) {
        super(call, headers, store);
        this.method = method;
        this.timeGrowsWithRequest = timeGrowsWithRequest;
    }

    @Override
    boolean isBrief(InputStream body) {
        return timeGrowsWithRequest && body instanceof ShortBody request && request.array().length <= BRIEF_BYTES;
    }

    @Override
    void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException {
        InputStream response = method.answer(request, charge);
        releaseRequest();
        sendLast(response, response.available());
    }
}
