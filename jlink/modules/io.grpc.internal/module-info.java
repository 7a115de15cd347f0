module io.grpc.internal {
    requires com.google.common;
    requires transitive io.grpc;
    requires io.perfmark;
    requires java.logging;
    // Service configurations from DNS TXT records, which it leaves alone where JNDI is not there.
    requires static java.naming;

    exports io.grpc.internal;

    provides io.grpc.LoadBalancerProvider with
            io.grpc.internal.PickFirstLoadBalancerProvider;
    provides io.grpc.NameResolverProvider with
            io.grpc.internal.DnsNameResolverProvider;
}
