module io.grpc {
    requires com.google.common;
    requires java.logging;

    exports io.grpc;

    uses io.grpc.LoadBalancerProvider;
    uses io.grpc.ManagedChannelProvider;
    uses io.grpc.NameResolverProvider;
    uses io.grpc.ServerProvider;
}
