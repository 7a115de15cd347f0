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

    private final Method<? extends InputStream> method;

    UnaryCall(
            ServerCall<InputStream, InputStream> call,
            Metadata headers,
            MvccStore store,
            Method<? extends InputStream> method) {
        super(call, headers, store);
        this.method = method;
    }

    @Override
    void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException {
        InputStream response = method.answer(request, charge);
        releaseRequest();
        sendLast(response, response.available());
    }
}
