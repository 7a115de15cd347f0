package homekv.rpc;

import io.grpc.BindableService;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * Runs the calls of services that gRPC brings along (health, reflection) each on a virtual thread of its own: the
 * transport's threads queue what happens to a call, and the call's thread deals with it in that order.
 *
 * <p>A queue is as long as what the client may send unasked, which is a message and the end of the call.
 */
final class VirtualThreadCalls implements ServerInterceptor {
    private final Set<QueuedCall<?, ?>> open = ConcurrentHashMap.newKeySet();

    /** What calls end with from now on, or null as long as they are welcome. */
    private volatile Status ending;

    /** The service with requests left unread: they are parsed by the call's thread, too. */
    ServerServiceDefinition wrap(BindableService service) {
        return ServerInterceptors.intercept(
                ServerInterceptors.useMarshalledMessages(service.bindService(), RequestCall.UNREAD), this);
    }

    @Override
    public <RequestT, ResponseT> ServerCall.Listener<RequestT> interceptCall(
            ServerCall<RequestT, ResponseT> call, Metadata headers, ServerCallHandler<RequestT, ResponseT> next) {
        QueuedCall<RequestT, ResponseT> queued = new QueuedCall<>(call, headers, next);
        open.add(queued);
        InFlightBytes.Call.current().onRefusal(queued::end);
        Thread.startVirtualThread(Context.current().wrap(queued));
        if (ending != null) {
            queued.end(ending);
        }
        return queued;
    }

    /** Ends every call, also those that have yet to come, since some (watches of health) would go on for ever. */
    void end(Status status) {
        ending = status;
        open.forEach(call -> call.end(status));
    }

    private final class QueuedCall<RequestT, ResponseT> extends ServerCall.Listener<RequestT> implements Runnable {
        private final ServerCall<RequestT, ResponseT> call;
        private final Metadata headers;
        private final ServerCallHandler<RequestT, ResponseT> next;
        private final BlockingQueue<Runnable> events = new LinkedBlockingQueue<>();

        // The call's own thread alone uses these.
        private ServerCall.Listener<RequestT> listener;
        private boolean ended;
        private boolean over;

        QueuedCall(
                ServerCall<RequestT, ResponseT> call, Metadata headers, ServerCallHandler<RequestT, ResponseT> next) {
            this.call = call;
            this.headers = headers;
            this.next = next;
        }

        @Override
        public void run() {
            attempt(() -> listener = next.startCall(call, headers));
            while (!over) {
                try {
                    attempt(events.take());
                } catch (InterruptedException e) {
                    throw new AssertionError("nobody interrupts a call", e);
                }
            }
            open.remove(this);
        }

        /** Ends the call if that fails; what happens to it afterwards is not told to the service. */
        private void attempt(Runnable event) {
            try {
                event.run();
            } catch (RuntimeException e) {
                if (!ended) {
                    ended = true;
                    call.close(Statuses.failed(e), new Metadata());
                }
            }
        }

        /** Closes the call, whatever its service wants, which is told that the call was cancelled. */
        void end(Status status) {
            events.add(() -> {
                if (!ended) {
                    ended = true;
                    call.close(status, new Metadata());
                    listener.onCancel();
                }
            });
        }

        /** Lets the service know of something, unless the call has been ended over its head. */
        private void tell(Runnable event) {
            events.add(() -> {
                if (!ended) {
                    event.run();
                }
            });
        }

        private void tellLast(Runnable event) {
            events.add(() -> {
                over = true;
                if (!ended) {
                    event.run();
                }
            });
        }

        @Override
        public void onMessage(RequestT message) {
            // Wrapped as this service is, every message is the stream that the transport has put it in.
            InputStream body = (InputStream) message;
            events.add(() -> {
                try (body) {
                    if (!ended) {
                        listener.onMessage(message);
                    }
                } catch (IOException e) {
                    throw new UncheckedIOException("a buffer in memory cannot be closed", e);
                }
            });
        }

        @Override
        public void onHalfClose() {
            tell(() -> listener.onHalfClose());
        }

        @Override
        public void onReady() {
            tell(() -> listener.onReady());
        }

        @Override
        public void onCancel() {
            tellLast(() -> listener.onCancel());
        }

        @Override
        public void onComplete() {
            tellLast(() -> listener.onComplete());
        }
    }
}
