using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// What one thread keeps for oneDNN: its stream, its scratchpad, and one primitive with memory objects per shape met. Products run on
/// the calling thread alone (its OpenMP team has one member); spreading over cores is the caller's business.
/// </summary>
internal sealed unsafe class OneDnnThread : IDisposable
{
    private const int MostShapes = 2048;           // a guard for callers with ever new shapes; a model has a few dozen

    [ThreadStatic]
    private static OneDnnThread? t_ofThisThread;

    private readonly OneDnnLibrary _library;
    private nint _stream;
    private readonly Dictionary<OneDnnMatmulKey, OneDnnMatmul?> _matmuls = [];
    private void* _scratchpad;
    private long _scratchpadBytes;

    /// <summary>State for the calling thread; make it on the thread that uses it.</summary>
    public OneDnnThread(OneDnnLibrary library)
    {
        _library = library;
        library.SetThreadsOfThisThread(1);
        _stream = library.CreateStream();
    }

    /// <summary>The calling thread's, made at first use.</summary>
    public static OneDnnThread OfThisThread(OneDnnLibrary library) => t_ofThisThread ??= new OneDnnThread(library);

    /// <summary>Computes C (=|+=) A·B (+ bias); false, with nothing done, where oneDNN has no code for the key.</summary>
    public bool TryRun(in OneDnnMatmulKey key, nint a, nint b, nint bias, nint c)
    {
        if (!_matmuls.TryGetValue(key, out var matmul))
        {
            matmul = Add(key);
        }

        if (matmul is null)
        {
            return false;
        }

        if (matmul.ScratchpadBytes > _scratchpadBytes)
        {
            Grow(matmul.ScratchpadBytes);
        }

        matmul.Run(_stream, a, b, bias, c, (nint)_scratchpad);
        return true;
    }

    /// <summary>Frees primitives and scratchpad.</summary>
    public void Dispose()
    {
        Forget();
        Release();
        GC.SuppressFinalize(this);
    }

    ~OneDnnThread() => Release();

    private void Release()
    {
        FreeScratchpad();
        _library.DestroyStream(_stream);
        _stream = 0;
    }

    private OneDnnMatmul? Add(in OneDnnMatmulKey key)
    {
        if (_matmuls.Count >= MostShapes)
        {
            Forget();
        }

        var matmul = _library.TryCreateMatmul(key);
        _matmuls.Add(key, matmul);
        return matmul;
    }

    private void Forget()
    {
        foreach (var matmul in _matmuls.Values)
        {
            matmul?.Dispose();
        }

        _matmuls.Clear();
    }

    private void Grow(long bytes)
    {
        FreeScratchpad();
        _scratchpad = NativeMemory.AlignedAlloc((nuint)bytes, 4096);
        _scratchpadBytes = bytes;
    }

    private void FreeScratchpad()
    {
        NativeMemory.AlignedFree(_scratchpad);
        _scratchpad = null;
        _scratchpadBytes = 0;
    }
}
