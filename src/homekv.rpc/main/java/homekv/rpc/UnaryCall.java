package homekv.rpc;

import homekv.storage.MvccStore;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import java.io.IOException;
import java.io.InputStream;
import java.util.function.Predicate;

/** A call of a method with one response, which is a stream that knows its length. */
final class UnaryCall extends RequestCall<InputStream> {
    /** Does the work of a method, on the call's own thread. */
    interface Method<ResponseT> {
        /** Reads the request and answers it, having charged a response of any size to {@code inFlight}. */
        ResponseT answer(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

    /** The longest request of a brief call: some hundred keys, for which the others on its loop wait less than a millisecond. */
    private static final int BRIEF_BYTES = 4 << 10;

    private final Method<? extends InputStream> method;
    private final Predicate<byte[]> timeGrowsWithRequest;

    /**
     * @param timeGrowsWithRequest whether {@code method} takes time for a request that is in proportion to its length, but for
     *     sending the response, whatever is in the store
     */
    UnaryCall(
            ServerCall<InputStream, InputStream> call,
            Metadata headers,
            MvccStore store,
            Method<? extends InputStream> method,
            Predicate<byte[]> timeGrowsWithRequest) {
        super(call, headers, store);
        this.method = method;
        this.timeGrowsWithRequest = timeGrowsWithRequest;
    }

    @Override
    boolean isBrief(InputStream body) {
        return body instanceof ShortBody request
                && request.array().length <= BRIEF_BYTES
                && timeGrowsWithRequest.test(request.array());
    }

    @Override
    void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException {
        InputStream response = method.answer(request, charge);
        releaseRequest();
        sendLast(response, response.available());
    }
}
