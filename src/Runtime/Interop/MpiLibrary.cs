using System.Runtime.InteropServices;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>
/// The functions of MPI in use, over one of the two binary interfaces that exist: in Open MPI a handle is the address of a symbol or
/// object, in MPICH (and its kin: Intel MPI, MVAPICH) it is an int with values fixed by their common ABI. Either fits a native integer:
/// MPICH's functions look at the lower half of an argument, and write the lower half of a zeroed place.
/// </summary>
internal sealed unsafe class MpiLibrary
{
    /// <summary>MPI_THREAD_SERIALIZED: several threads call, one at a time.</summary>
    public const int ThreadSerialized = 2;

    private const int MostText = 8192;                          // MPI_MAX_LIBRARY_VERSION_STRING of MPICH, the longest of all
    private const int MpichWorld = 0x44000000, MpichByte = 0x4c00010d, MpichErrorsReturn = 0x54000001, MpichTagUpperBound = 0x64400001;

    private readonly delegate* unmanaged<int*, byte***, int, int*, int> _initThread;
    private readonly delegate* unmanaged<int*, int> _initialized, _finalized;
    private readonly delegate* unmanaged<int> _finalize;
    private readonly delegate* unmanaged<nint, int*, int> _rank, _size;
    private readonly delegate* unmanaged<nint, nint, int> _setErrorHandler;
    private readonly delegate* unmanaged<nint, int, void*, int*, int> _attribute;
    private readonly delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int> _isend, _irecv;
    private readonly delegate* unmanaged<nint*, int*, nint, int> _test;
    private readonly delegate* unmanaged<int, byte*, int*, int> _errorString;
    private readonly delegate* unmanaged<byte*, int*, int> _version;
    private readonly nint _world, _byte, _errorsReturn, _statusIgnore;
    private readonly int _tagUpperBound;

    private MpiLibrary(nint handle, string name)
    {
        nint Find(string symbol) => NativeLibrary.TryGetExport(handle, symbol, out var address)
            ? address
            : throw new EntryPointNotFoundException(symbol);

        _initThread = (delegate* unmanaged<int*, byte***, int, int*, int>)Find("MPI_Init_thread");
        _initialized = (delegate* unmanaged<int*, int>)Find("MPI_Initialized");
        _finalized = (delegate* unmanaged<int*, int>)Find("MPI_Finalized");
        _finalize = (delegate* unmanaged<int>)Find("MPI_Finalize");
        _rank = (delegate* unmanaged<nint, int*, int>)Find("MPI_Comm_rank");
        _size = (delegate* unmanaged<nint, int*, int>)Find("MPI_Comm_size");
        _setErrorHandler = (delegate* unmanaged<nint, nint, int>)Find("MPI_Comm_set_errhandler");
        _attribute = (delegate* unmanaged<nint, int, void*, int*, int>)Find("MPI_Comm_get_attr");
        _isend = (delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int>)Find("MPI_Isend");
        _irecv = (delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int>)Find("MPI_Irecv");
        _test = (delegate* unmanaged<nint*, int*, nint, int>)Find("MPI_Test");
        _errorString = (delegate* unmanaged<int, byte*, int*, int>)Find("MPI_Error_string");
        _version = (delegate* unmanaged<byte*, int*, int>)Find("MPI_Get_library_version");
        IsOpenMpi = NativeLibrary.TryGetExport(handle, "ompi_mpi_comm_world", out _world);
        if (IsOpenMpi)
        {
            (_byte, _errorsReturn, _statusIgnore, _tagUpperBound) = (Find("ompi_mpi_byte"), Find("ompi_mpi_errors_return"), 0, 0);
        }
        else
        {
            (_world, _byte, _errorsReturn) = (MpichWorld, MpichByte, MpichErrorsReturn);
            (_statusIgnore, _tagUpperBound) = (1, MpichTagUpperBound);
        }

        Path = NativeLibraries.FileOf((nint)_finalize) ?? name;
        Version = LibraryVersion();
    }

    /// <summary>Which of the two interfaces.</summary>
    public bool IsOpenMpi { get; }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Open MPI v4.1.4, say.</summary>
    public string Version { get; }

    /// <summary>Whether this process has called MPI_Init.</summary>
    public bool IsInitialized
    {
        get
        {
            int initialized, finalized;
            Check(_initialized(&initialized), "MPI_Initialized(&flag)");
            Check(_finalized(&finalized), "MPI_Finalized(&flag)");
            return initialized != 0 && finalized == 0;
        }
    }

    /// <summary>Binds a library; null with what is missing.</summary>
    public static MpiLibrary? TryBind(OpenedLibrary opened, out string problem)
    {
        try
        {
            problem = "";
            return new(opened.Handle, opened.NameOrReason);
        }
        catch (EntryPointNotFoundException e)
        {
            problem = $"it has no {e.Message}";
            return null;
        }
    }

    /// <summary>Begins; errors are returned from here on instead of ending the process.</summary>
    /// <returns>the thread level that is provided</returns>
    public int Initialize()
    {
        int provided;
        Check(_initThread(null, null, ThreadSerialized, &provided), "MPI_Init_thread(null, null, MPI_THREAD_SERIALIZED, &provided)");
        Check(_setErrorHandler(_world, _errorsReturn), "MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN)");
        return provided;
    }

    /// <summary>Ends; every rank calls it, on the thread that began.</summary>
    public void Finish() => Check(_finalize(), "MPI_Finalize()");

    public int Rank()
    {
        int rank;
        Check(_rank(_world, &rank), "MPI_Comm_rank(world, &rank)");
        return rank;
    }

    public int Size()
    {
        int size;
        Check(_size(_world, &size), "MPI_Comm_size(world, &size)");
        return size;
    }

    /// <summary>The largest tag.</summary>
    public int LargestTag()
    {
        int* value = null;
        int found;
        Check(_attribute(_world, _tagUpperBound, &value, &found), "MPI_Comm_get_attr(world, MPI_TAG_UB, &value, &flag)");
        return found != 0 ? *value : short.MaxValue;
    }

    /// <summary>Begins to send; <paramref name="request"/> is a zeroed place.</summary>
    public void Send(byte* from, int bytes, int rank, int tag, nint* request) =>
        Check(_isend(from, bytes, _byte, rank, tag, _world, request), "MPI_Isend(buffer, bytes, MPI_BYTE, rank, tag, world, &request)");

    /// <summary>Begins to receive; <paramref name="request"/> is a zeroed place.</summary>
    public void Receive(byte* to, int bytes, int rank, int tag, nint* request) =>
        Check(_irecv(to, bytes, _byte, rank, tag, _world, request), "MPI_Irecv(buffer, bytes, MPI_BYTE, rank, tag, world, &request)");

    /// <summary>Whether a request has been carried out.</summary>
    public bool Test(nint* request)
    {
        int done;
        Check(_test(request, &done, _statusIgnore), "MPI_Test(&request, &flag, MPI_STATUS_IGNORE)");
        return done != 0;
    }

    private string LibraryVersion()
    {
        var text = new byte[MostText];
        int length;
        fixed (byte* bytes = text)
        {
            if (_version(bytes, &length) != 0)
            {
                return "MPI of an unknown version";
            }
        }

        // MPICH: a table, whose first line is "MPICH Version:\t4.0.2"; Open MPI: "Open MPI v4.1.4, package: …"
        var whole = Encoding.UTF8.GetString(text, 0, Math.Clamp(length, 0, MostText)).TrimEnd('\0');
        var first = whole.Split('\n', ',')[0].Replace("Version:", "", StringComparison.Ordinal);
        return string.Join(' ', first.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries));
    }

    private void Check(int code, string call)
    {
        if (code == 0)
        {
            return;
        }

        var text = stackalloc byte[MostText];
        int length;
        throw new MpiException(
            code, _errorString(code, text, &length) == 0 ? Marshal.PtrToStringUTF8((nint)text) ?? "" : "an error without a text", call);
    }
}
