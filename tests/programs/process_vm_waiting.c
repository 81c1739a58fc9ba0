// process_vm_writev, and so the start of all tracing, while other threads wait in calls that they made before from the same place.
// cflags: -pthread
#include "check.h"

static int in[2], out[2];

static void *reader(void *arg) {
    for (char c = 0; c != 'x';) {
        CHECK(read(in[0], &c, 1) == 1);
        CHECK(write(out[1], &c, 1) == 1);
    }
    return arg;
}

static void round_trip(char c) {
    char back;
    CHECK(write(in[1], &c, 1) == 1);
    CHECK(read(out[0], &back, 1) == 1);
    CHECK(back == c);
}

int main(void) {
    OK(pipe(in));
    OK(pipe(out));
    pthread_t t;
    OK0(pthread_create(&t, NULL, reader, NULL));
    for (int i = 0; i < 10; i++) round_trip('a');
    sleep_us(20000);
    uint32_t from = noise_u32(), to = 0;
    struct iovec f = {&from, sizeof from}, o = {&to, sizeof to};
    CHECK(process_vm_writev(getpid(), &f, 1, &o, 1, 0) == sizeof from);
    CHECK(to == from);
    for (int i = 0; i < 10; i++) round_trip('b');
    round_trip('x');
    OK0(pthread_join(t, NULL));
    noise("end");
    return 0;
}
