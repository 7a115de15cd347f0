module io.grpc.stub {
    requires transitive com.google.common;
    requires transitive io.grpc;
    requires java.logging;

    exports io.grpc.stub;
    exports io.grpc.stub.annotations;
}
