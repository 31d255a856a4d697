using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// The functions of NCCL in use, under their own names (nccl.h of 2.14 and later; two are younger, see <see cref="NcclCommunicator"/>). Any
/// of them may block, so none is marked SuppressGCTransition. Which file answers to the name is decided by <see cref="NativeLibraries"/>;
/// hostcuda exports the same.
/// </summary>
internal static unsafe partial class Nccl
{
    /// <summary>ncclDataType_t</summary>
    public const int Int8 = 0, Float = 7, Double = 8, BFloat16 = 9;

    /// <summary>ncclRedOp_t</summary>
    public const int Sum = 0;

    public const string Library = "nccl";

    [LibraryImport(Library)]
    public static partial NcclResult ncclGetVersion(int* version);

    [LibraryImport(Library)]
    public static partial NcclResult ncclGetUniqueId(NcclUniqueId* uniqueId);

    [LibraryImport(Library)]
    public static partial NcclResult ncclCommInitRank(nint* comm, int nranks, NcclUniqueId commId, int rank);

    /// <summary>2.14 and later.</summary>
    [LibraryImport(Library)]
    public static partial NcclResult ncclCommInitRankConfig(nint* comm, int nranks, NcclUniqueId commId, int rank, NcclConfig* config);

    /// <summary>2.18 and later. The result is stored when the parent is no longer in progress.</summary>
    [LibraryImport(Library)]
    public static partial NcclResult ncclCommSplit(nint comm, int color, int key, nint* newcomm, NcclConfig* config);

    /// <summary>2.14 and later.</summary>
    [LibraryImport(Library)]
    public static partial NcclResult ncclCommFinalize(nint comm);

    [LibraryImport(Library)]
    public static partial NcclResult ncclCommDestroy(nint comm);

    [LibraryImport(Library)]
    public static partial NcclResult ncclCommAbort(nint comm);

    [LibraryImport(Library)]
    public static partial NcclResult ncclCommGetAsyncError(nint comm, NcclResult* asyncError);

    [LibraryImport(Library)]
    public static partial NcclResult ncclAllReduce(
        void* sendbuff, void* recvbuff, nuint count, int datatype, int op, nint comm, nint stream);

    [LibraryImport(Library)]
    public static partial NcclResult ncclReduceScatter(
        void* sendbuff, void* recvbuff, nuint recvcount, int datatype, int op, nint comm, nint stream);

    [LibraryImport(Library)]
    public static partial NcclResult ncclAllGather(void* sendbuff, void* recvbuff, nuint sendcount, int datatype, nint comm, nint stream);

    [LibraryImport(Library)]
    public static partial NcclResult ncclBroadcast(
        void* sendbuff, void* recvbuff, nuint count, int datatype, int root, nint comm, nint stream);

    [LibraryImport(Library)]
    public static partial NcclResult ncclSend(void* sendbuff, nuint count, int datatype, int peer, nint comm, nint stream);

    [LibraryImport(Library)]
    public static partial NcclResult ncclRecv(void* recvbuff, nuint count, int datatype, int peer, nint comm, nint stream);

    [LibraryImport(Library)]
    public static partial NcclResult ncclGroupStart();

    [LibraryImport(Library)]
    public static partial NcclResult ncclGroupEnd();

    [LibraryImport(Library)]
    public static partial byte* ncclGetErrorString(NcclResult result);

    /// <summary>2.13 and later.</summary>
    [LibraryImport(Library)]
    public static partial byte* ncclGetLastError(nint comm);
}
