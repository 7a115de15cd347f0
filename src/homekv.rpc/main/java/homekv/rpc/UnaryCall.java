package homekv.rpc;

import homekv.storage.MvccStore;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import java.io.IOException;
import java.io.InputStream;

/** A call of a method with one response. */
final class UnaryCall<ResponseT> extends RequestCall<ResponseT> {
    /** Does the work of a method, on the call's own thread. */
    interface Method<ResponseT> {
        /** Reads the request and answers it, having charged a response of any size to {@code inFlight}. */
        ResponseT answer(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

    private final Method<ResponseT> method;

    UnaryCall(ServerCall<InputStream, ResponseT> call, Metadata headers, MvccStore store, Method<ResponseT> method) {
        super(call, headers, store);
        this.method = method;
    }

    @Override
    void serve(InputStream request, InFlightBytes.Call charge) throws IOException, RefusedException {
        ResponseT response = method.answer(request, charge);
        releaseRequest();
        send(response);
    }
}
