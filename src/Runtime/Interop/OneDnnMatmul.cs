using System.Runtime.ConstrainedExecution;

namespace Z1Coder.Runtime;

/// <summary>One primitive with one set of memory objects; for one thread at a time, since addresses are set before each run.</summary>
internal sealed unsafe class OneDnnMatmul(OneDnnLibrary library) : CriticalFinalizerObject, IDisposable
{
    public nint Primitive { get; set; }

    public nint A { get; set; }

    public nint B { get; set; }

    public nint C { get; set; }

    public nint Bias { get; set; }

    public nint Scratchpad { get; set; }

    public long ScratchpadBytes { get; set; }

    /// <summary>Computes one product at these addresses; <paramref name="scratchpad"/> holds <see cref="ScratchpadBytes"/>.</summary>
    public void Run(nint stream, nint a, nint b, nint bias, nint c, nint scratchpad)
    {
        var arguments = stackalloc OneDnnArgument[5];
        library.SetAddress(A, a);
        library.SetAddress(B, b);
        library.SetAddress(C, c);
        arguments[0] = new OneDnnArgument { Kind = OneDnnArgument.Source, Memory = A };
        arguments[1] = new OneDnnArgument { Kind = OneDnnArgument.Weights, Memory = B };
        arguments[2] = new OneDnnArgument { Kind = OneDnnArgument.Destination, Memory = C };
        var count = 3;
        if (Bias != 0)
        {
            library.SetAddress(Bias, bias);
            arguments[count++] = new OneDnnArgument { Kind = OneDnnArgument.Bias, Memory = Bias };
        }

        if (Scratchpad != 0)
        {
            library.SetAddress(Scratchpad, scratchpad);
            arguments[count++] = new OneDnnArgument { Kind = OneDnnArgument.Scratchpad, Memory = Scratchpad };
        }

        library.Execute(Primitive, stream, arguments, count);
    }

    /// <summary>Frees the native objects.</summary>
    public void Dispose()
    {
        Release();
        GC.SuppressFinalize(this);
    }

    ~OneDnnMatmul() => Release();

    private void Release()
    {
        library.DestroyPrimitive(Primitive);
        library.DestroyMemory(A);
        library.DestroyMemory(B);
        library.DestroyMemory(C);
        library.DestroyMemory(Bias);
        library.DestroyMemory(Scratchpad);
        (Primitive, A, B, C, Bias, Scratchpad) = (0, 0, 0, 0, 0, 0);
    }
}
