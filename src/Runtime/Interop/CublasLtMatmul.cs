namespace Z1Coder.Runtime;

/// <summary>
/// One product on one stream: its descriptors, the algorithm chosen for it and the memory that needs. Used by one thread at a time, for
/// <see cref="Run"/> writes the addresses of bias and scales into the descriptor.
/// </summary>
internal sealed unsafe class CublasLtMatmul : IDisposable
{
    private const int ComputeFloat32 = 68;             // CUBLAS_COMPUTE_32F

    // values of cublasLtMatmulDescAttributes_t
    private const int TransA = 3;                      // CUBLASLT_MATMUL_DESC_TRANSA
    private const int TransB = 4;                      // CUBLASLT_MATMUL_DESC_TRANSB
    private const int Epilogue = 7;                    // CUBLASLT_MATMUL_DESC_EPILOGUE
    private const int BiasPointer = 8;                 // CUBLASLT_MATMUL_DESC_BIAS_POINTER
    private const int ScaleA = 17;                     // CUBLASLT_MATMUL_DESC_A_SCALE_POINTER
    private const int ScaleB = 18;                     // CUBLASLT_MATMUL_DESC_B_SCALE_POINTER
    private const int EpilogueBias = 4;                // CUBLASLT_EPILOGUE_BIAS

    // values of cublasLtMatmulPreferenceAttributes_t
    private const int MaxWorkspaceBytes = 1;           // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
    private const int ReductionSchemeMask = 3;         // CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK
    private const int MinAlignmentA = 5;               // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; B, C, D follow

    private readonly CublasLtLibrary _library;
    private readonly CudaHandle _description;
    private readonly CudaHandle? _a, _b, _d;
    private CublasLtAlgorithm _algorithm;

    /// <summary>Makes the descriptors; an algorithm must be chosen before the first run.</summary>
    public CublasLtMatmul(CublasLtLibrary library, in CublasLtMatmulKey key)
    {
        _library = library;
        Key = key;
        Label = $"matmul {key.M}x{key.N}x{key.K} {(key.TransposeA ? 'T' : 'N')}{(key.TransposeB ? 'T' : 'N')}{(key.IsFp8 ? " fp8" : "")}";
        nint made;
        CublasLt.Check(CublasLt.cublasLtMatmulDescCreate(&made, ComputeFloat32, CublasLtType.Float32));
        _description = new CudaHandle(library.Context, made, CudaHandleKind.CublasLtMatmulDesc);
        try
        {
            Set(TransA, key.TransposeA ? 1 : 0);       // CUBLAS_OP_N, CUBLAS_OP_T
            Set(TransB, key.TransposeB ? 1 : 0);
            if (key.HasBias)
            {
                Set(Epilogue, EpilogueBias);
            }

            _a = Layout(key.TypeA, key.TransposeA ? key.K : key.M, key.TransposeA ? key.M : key.K, key.LdA);
            _b = Layout(key.TypeB, key.TransposeB ? key.N : key.K, key.TransposeB ? key.K : key.N, key.LdB);
            _d = Layout(key.TypeD, key.M, key.N, key.LdD);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What it computes.</summary>
    public CublasLtMatmulKey Key { get; }

    /// <summary>Its name in traces.</summary>
    public string Label { get; }

    /// <summary>Workspace of the chosen algorithm, bytes.</summary>
    public long WorkspaceBytes { get; private set; }

    /// <summary>The chosen algorithm.</summary>
    public CublasLtAlgorithm Algorithm => _algorithm;

    /// <summary>Chooses an algorithm.</summary>
    public void Use(in CublasLtHeuristic choice)
    {
        _algorithm = choice.Algorithm;
        WorkspaceBytes = (long)choice.WorkspaceSize;
    }

    /// <summary>
    /// The library's candidates, best guess first, restricted to reductions with the same bits on every run: none, or fp32 parts added in
    /// a fixed order. In place, blocks add in the order in which they finish; the output type would round every part to bfloat16.
    /// </summary>
    /// <returns>how many were written</returns>
    public int Candidates(long workspaceBytes, Span<CublasLtHeuristic> results)
    {
        nint made;
        CublasLt.Check(CublasLt.cublasLtMatmulPreferenceCreate(&made));
        using var preference = new CudaHandle(_library.Context, made, CudaHandleKind.CublasLtPreference);
        var workspace = (ulong)workspaceBytes;
        CublasLt.Check(CublasLt.cublasLtMatmulPreferenceSetAttribute(made, MaxWorkspaceBytes, &workspace, sizeof(ulong)));
        var reductions = (uint)CublasLtReduction.ComputeType;
        CublasLt.Check(CublasLt.cublasLtMatmulPreferenceSetAttribute(made, ReductionSchemeMask, &reductions, sizeof(uint)));
        var alignment = (uint)Key.Alignment;           // the library assumes 256 bytes if it is not told
        for (var operand = 0; operand < 4; operand++)
        {
            CublasLt.Check(CublasLt.cublasLtMatmulPreferenceSetAttribute(made, MinAlignmentA + operand, &alignment, sizeof(uint)));
        }

        var count = 0;
        fixed (CublasLtHeuristic* array = results)
        {
            var status = CublasLt.cublasLtMatmulAlgoGetHeuristic(
                _library.Value, _description.Value, _a!.Value, _b!.Value, _d!.Value, _d.Value, made, results.Length, array, &count);
            Check(status, "cublasLtMatmulAlgoGetHeuristic");
        }

        var kept = 0;
        for (var i = 0; i < count; i++)
        {
            if (results[i].State == CublasStatus.Success
                && results[i].Algorithm.Reduction is null or CublasLtReduction.None or CublasLtReduction.ComputeType)
            {
                results[kept++] = results[i];
            }
        }

        return kept;
    }

    /// <summary>Whether this library has the algorithm for this product, and the workspace it then needs.</summary>
    public bool TryCheck(in CublasLtAlgorithm algorithm, out CublasLtHeuristic result)
    {
        fixed (CublasLtAlgorithm* candidate = &algorithm)
        fixed (CublasLtHeuristic* checkedResult = &result)
        {
            // the library fills in what the algorithm needs, never the algorithm itself (cublasLt.h)
            result = new CublasLtHeuristic { Algorithm = algorithm };
            return CublasLt.cublasLtMatmulAlgoCheck(
                _library.Value, _description.Value, _a!.Value, _b!.Value, _d!.Value, _d.Value, candidate, checkedResult)
                == CublasStatus.Success && result.State == CublasStatus.Success;
        }
    }

    /// <summary>Enqueues D = op(A)·op(B) + beta · D (+ bias), times both scales. Addresses are of the device.</summary>
    /// <param name="stream">CUstream of the context that is current</param>
    /// <param name="a">A</param>
    /// <param name="b">B</param>
    /// <param name="d">C and D</param>
    /// <param name="bias">m elements of D's type; read when the key says so</param>
    /// <param name="scaleA">fp32 factor of A in device memory, or 0</param>
    /// <param name="scaleB">fp32 factor of B in device memory, or 0</param>
    /// <param name="beta">0 overwrites D, 1 adds to it</param>
    /// <param name="workspace">at least <see cref="WorkspaceBytes"/></param>
    /// <param name="workspaceBytes">bytes there</param>
    public void Run(
        nint stream, nint a, nint b, nint d, nint bias, nint scaleA, nint scaleB, float beta, nint workspace, long workspaceBytes)
    {
        if (Key.HasBias)
        {
            Set(BiasPointer, bias);
        }

        if (Key.IsFp8)
        {
            Set(ScaleA, scaleA);
            Set(ScaleB, scaleB);
        }

        var alpha = 1f;
        fixed (CublasLtAlgorithm* algorithm = &_algorithm)
        {
            var status = CublasLt.cublasLtMatmul(
                _library.Value, _description.Value, &alpha, (void*)a, _a!.Value, (void*)b, _b!.Value, &beta, (void*)d, _d!.Value,
                (void*)d, _d.Value, algorithm, (void*)workspace, (nuint)workspaceBytes, stream);
            Check(status, "cublasLtMatmul");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _description.Dispose();
        _a?.Dispose();
        _b?.Dispose();
        _d?.Dispose();
    }

    private CudaHandle Layout(CublasLtType type, int rows, int columns, long ld)
    {
        nint made;
        CublasLt.Check(CublasLt.cublasLtMatrixLayoutCreate(&made, type, (ulong)rows, (ulong)columns, ld));
        return new CudaHandle(_library.Context, made, CudaHandleKind.CublasLtMatrixLayout);
    }

    private void Set<T>(int attribute, T value)
        where T : unmanaged =>
        CublasLt.Check(CublasLt.cublasLtMatmulDescSetAttribute(_description.Value, attribute, &value, (nuint)sizeof(T)));

    private void Check(CublasStatus status, string call)
    {
        if (status != CublasStatus.Success)
        {
            throw new CublasLtException((int)status, call, Key.ToString());
        }
    }
}
