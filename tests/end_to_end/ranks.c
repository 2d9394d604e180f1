/*
 * An MPI program whose ranks read from each other's memory, directly with process_vm_readv(2) and
 * by large messages, and then leave one after the other while they read a directory.
 *
 * usage: ranks DIRECTORY SECONDS
 *
 * Rank 0 prints a line for each rank: its mount namespace, and "copied" or what went wrong. Rank 0
 * leaves at once, the others SECONDS later. The status is 0, or 70 if the directory vanished.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE (4 << 20)

struct place {
    pid_t pid;
    char *address;
};

struct outcome {
    char namespace[64];
    char text[128];
};

static char mine[SIZE], theirs[SIZE];

static char sample(int rank, size_t index) { return (char)(rank * 131 + index * 7 + index / 251); }

static int is_of(int rank) {
    for (size_t index = 0; index < SIZE; index++)
        if (theirs[index] != sample(rank, index)) return 0;
    return 1;
}

static void read_directly(int other, struct place from, struct outcome *outcome) {
    struct iovec local = {theirs, SIZE}, remote = {from.address, SIZE};
    memset(theirs, 0, SIZE);
    ssize_t got = process_vm_readv(from.pid, &local, 1, &remote, 1, 0);
    if (got < 0)
        snprintf(outcome->text, sizeof outcome->text, "process_vm_readv from rank %d: %s", other,
                 strerror(errno));
    else if (got != SIZE || !is_of(other))
        snprintf(outcome->text, sizeof outcome->text, "wrong bytes from rank %d", other);
}

static int listed(const char *path) {
    int count = 0;
    DIR *directory = opendir(path);
    if (directory == NULL) return 0;
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count > 2;
}

int main(int argc, char **argv) {
    int rank, ranks;
    struct outcome outcome = {"", "copied"};
    if (argc != 3) return 2;
    /* Where Yama restricts ptrace(2), siblings may not read each other otherwise. */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (size_t index = 0; index < SIZE; index++) mine[index] = sample(rank, index);
    struct place here = {getpid(), mine}, *places = calloc(ranks, sizeof here);
    MPI_Allgather(&here, sizeof here, MPI_BYTE, places, sizeof here, MPI_BYTE, MPI_COMM_WORLD);
    for (int other = 0; other < ranks; other++) read_directly(other, places[other], &outcome);
    int next = (rank + 1) % ranks, last = (rank + ranks - 1) % ranks;
    MPI_Sendrecv(mine, SIZE, MPI_BYTE, next, 0, theirs, SIZE, MPI_BYTE, last, 0, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    if (!is_of(last)) snprintf(outcome.text, sizeof outcome.text, "wrong message from %d", last);
    if (readlink("/proc/self/ns/mnt", outcome.namespace, sizeof outcome.namespace - 1) < 0) return 3;
    struct outcome *outcomes = calloc(ranks, sizeof outcome);
    MPI_Gather(&outcome, sizeof outcome, MPI_BYTE, outcomes, sizeof outcome, MPI_BYTE, 0,
               MPI_COMM_WORLD);
    for (int other = 0; rank == 0 && other < ranks; other++)
        printf("%d %s %s\n", other, outcomes[other].namespace, outcomes[other].text);
    MPI_Finalize();
    for (int turn = 0; rank > 0 && turn < 20 * atof(argv[2]); turn++) {
        if (!listed(argv[1])) return 70;
        usleep(50000);
    }
    return 0;
}
