package homekv.rpc;

import homekv.storage.Bytes;
import homekv.storage.MvccStore;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import java.io.IOException;
import java.io.InputStream;
import java.util.function.Function;
import java.util.function.Predicate;

/** A call of a method with one response, which is a stream that knows its length. */
final class UnaryCall<RequestT> extends RequestCall<InputStream> {
    /** Reads a request. */
    interface Reader<RequestT> {
        /** Throws what is wrong with it; has charged what it takes to {@code inFlight} otherwise. */
        RequestT read(InputStream body, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

    /** Does the work of a method, on the call's own thread. */
    interface Answerer<RequestT> {
        /** Answers a request, having charged a response of any size to {@code inFlight}. */
        InputStream answer(RequestT request, InFlightBytes.Call inFlight) throws IOException, RefusedException;
    }

    /**
     * What there is to know of a method.
     *
     * @param timeGrowsWithRequest whether it takes time for a request that is in proportion to its length, but for sending the
     *     response, whatever is in the store
     * @param soleKey the key that a request is about, or null if that is none or several
     */
    record Method<RequestT>(
            Reader<RequestT> reader,
            Answerer<RequestT> answerer,
            Predicate<RequestT> timeGrowsWithRequest,
            Function<RequestT, Bytes> soleKey) {
        /** One whose requests are read by the call's own thread, whose time may be anything. */
        static Method<InputStream> of(Answerer<InputStream> answerer) {
            return new Method<>((body, inFlight) -> body, answerer, body -> false, body -> null);
        }
    }

    /** The longest request of a brief call: some hundred keys, for which the others on its loop wait less than a millisecond. */
    private static final int BRIEF_BYTES = 4 << 10;

    private final Method<RequestT> method;

    /** Once it has been read. */
    private RequestT request;

    UnaryCall(ServerCall<InputStream, InputStream> call, Metadata headers, MvccStore store, Method<RequestT> method) {
        super(call, headers, store);
        this.method = method;
    }

    /** Reads a short request, since what would be read on a brief call's thread would be read by the same processor then. */
    @Override
    boolean isBrief(InputStream body, InFlightBytes.Call charge) {
        if (!CarriedThreads.supported()
                || !(body instanceof ShortBody shortBody)
                || shortBody.array().length > BRIEF_BYTES) {
            return false;
        }
        try {
            request = method.reader.read(body, charge);
        } catch (IOException | RefusedException | RuntimeException e) {
            return false; // The call's own thread reads it again, and says what is wrong with it.
        }
        return method.timeGrowsWithRequest.test(request);
    }

    @Override
    Bytes soleKey() {
        return method.soleKey.apply(request);
    }

    @Override
    void serve(InputStream body, InFlightBytes.Call charge) throws IOException, RefusedException {
        RequestT read = request == null ? method.reader.read(body, charge) : request;
        request = null;
        InputStream response = method.answerer.answer(read, charge);
        releaseRequest();
        sendLast(response, response.available());
    }
}
