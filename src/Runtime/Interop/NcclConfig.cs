using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// ncclConfig_t as 2.14 has it (ncclConfig_v21400, 24 bytes). NCCL only appends members, copies as many bytes as the caller says the struct
/// has, and fills members that are younger than the caller's version with their defaults: this one serves 2.14 and all later.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NcclConfig
{
    private const uint MagicNumber = 0xcafebeef;                // NCCL_API_MAGIC
    private const int Undefined = int.MinValue;                 // NCCL_CONFIG_UNDEF_INT

    public nuint Bytes;
    public uint Magic, Version;
    public int Blocking;
    private int _padding;

    /// <summary>Calls return at once, and <see cref="NcclResult.InProgress"/> says that they are not done.</summary>
    public static unsafe NcclConfig NonBlocking() => new()
    {
        Bytes = (nuint)sizeof(NcclConfig), Magic = MagicNumber, Version = NcclCommunicator.ConfigSince, Blocking = 0, _padding = Undefined,
    };
}
